"""Griffe extension: a function below the decorator `law` returns a `Check`, and names its source there."""

import ast

import griffe


class Laws(griffe.Extension):
    """Shows the result and the source of each check."""

    def on_function(self, *, func, **kwargs):
        for decorator in func.decorators:
            call = decorator.value
            if isinstance(call, griffe.ExprCall) and str(call.function) == "law":
                given = {one.name: one.value for one in call.arguments}
                func.returns = "Check"
                func.docstring.value += f"\n\nSource: {ast.literal_eval(str(given['source']))}."
