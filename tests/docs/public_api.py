"""The public functions and classes of the package."""

import importlib
import inspect
import pkgutil

import ddln

MODULES = [
    "ddln",
    *(
        f"ddln.{found.name}"
        for found in pkgutil.iter_modules(ddln.__path__)
        if found.ispkg and not found.name.startswith("_")
    ),
]


def public():
    """Every public function and class of the package by its shortest name, and their public methods."""
    objects = {}
    for module in map(importlib.import_module, MODULES):
        # `dir` has what is imported when it is first used, too.
        for name in dir(module):
            value = getattr(module, name)
            if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            if value.__module__.startswith("ddln"):
                objects.setdefault(value, f"{module.__name__}.{name}")
    names = {name: value for value, name in objects.items()}
    for name, value in list(names.items()):
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if isinstance(function, classmethod | staticmethod):
                    function = function.__func__
                if inspect.isfunction(function) and not method.startswith("_"):
                    names[f"{name}.{method}"] = function
    return names


PUBLIC = public()
