"""The examples of docstrings: those that show a result are run, the others fit the signatures."""

import ast
import doctest
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_api import PUBLIC

import ddln

PARSER = doctest.DocTestParser()
EXAMPLES = {
    name: found
    for name, value in PUBLIC.items()
    if (found := PARSER.get_examples(inspect.getdoc(value) or ""))
}
LAST = {
    name: max((number for number, example in enumerate(found, 1) if example.want), default=0)
    for name, found in EXAMPLES.items()
}


def namespace(name):
    """What an example may use: the names of the package, and a small problem."""
    X = jax.random.normal(jax.random.key(0), (3, 4))
    return (
        {name: getattr(ddln, name) for name in dir(ddln)}
        | vars(importlib.import_module(PUBLIC[name].__module__))
        | {
            "ddln": ddln,
            "errors": np.ones((3, 20, 10)),
            "jax": jax,
            "jnp": jnp,
            "loss": ddln.LeastSquares(X, X[:, 0]),
            "network": ddln.DeepDiagonal.zero_last(jnp.ones(4), 2),
            "np": np,
            "theta": jnp.ones(4),
        }
    )


# They take the compilation of a flow, and the tests of these flows do the same.
LONG = {"ddln.momentum_flow", "ddln.sam_flow", "ddln.steepest_flow"}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if LAST[name] and name not in LONG])
def test_the_result_is_the_one_shown(name):
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    shown = EXAMPLES[name][: LAST[name]]
    failures = []
    test = doctest.DocTest(shown, namespace(name), name, None, None, None)
    runner.run(test, out=failures.append)
    assert not failures, "".join(failures)


def calls(name):
    """The calls of this package's names in the examples of a docstring."""
    for example in EXAMPLES[name]:
        for node in ast.walk(ast.parse(example.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("ddln."):
                yield node


def misfit(call):
    """Why a call cannot be made, or None."""
    positional = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    try:
        function = eval(ast.unparse(call.func), {"ddln": ddln})
        inspect.signature(function).bind_partial(*positional, **keywords)
    except (AttributeError, TypeError) as error:
        return f"{ast.unparse(call)}: {error}"
    return None


def test_examples_fit_the_signatures():
    importlib.import_module("ddln.plots")
    problems = [(name, misfit(call)) for name in EXAMPLES for call in calls(name) if misfit(call)]
    assert problems == []


def test_a_misfit_is_found():
    call = ast.parse("ddln.limit(network, loss, tolerance=1)").body[0].value
    assert "tolerance" in misfit(call)
    assert misfit(ast.parse("ddln.limits_of(network)").body[0].value)
