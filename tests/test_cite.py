"""The entries of the bibliography that results call for."""

import importlib
import pkgutil
import re

import jax.numpy as jnp
import numpy as np

import ddln
from ddln._cite import SOURCES, bibliography, reference, short_name


def keys(result):
    return set(re.findall(r"^@\w+\{(\w+),$", ddln.cite(result), re.MULTILINE))


def test_the_mapping_names_classes_and_entries():
    names = set()
    for found in pkgutil.iter_modules(ddln.__path__):
        if found.ispkg:
            names |= set(dir(importlib.import_module(f"ddln.{found.name}")))
    assert SOURCES.keys() <= names
    assert {key for entry in SOURCES.values() for key in entry} <= bibliography().keys()


def test_what_results_call_for():
    X, y = np.eye(2, 3), np.ones(2)
    loss = ddln.LeastSquares(X, y)
    start = ddln.FourVector.zero(3)
    assert keys(start) == {"azulay2021"}
    assert keys(ddln.vanishing_limit(ddln.DeepDiagonal.zero_last(jnp.ones(3), 3), loss)) == {
        "berthier2023",
        "pesme2023",
    }
    # The parameterization at the end is part of a limit.
    assert keys(ddln.limit(start, loss)) == {"azulay2021"}
    assert keys(ddln.theory.assumption_a(ddln.DeepDiagonal(np.ones((2, 3))))) == {"labarriere2024"}
    assert keys((ddln.lasso_path(X, y), start)) == {"osborne2000", "efron2004", "azulay2021"}
    assert ddln.cite(loss) == ddln.cite(X) == ddln.cite(ddln.DeepDiagonal) == ""


def test_entries_are_those_of_the_file():
    entries = ddln.cite(
        (ddln.WeightNorm(1.0, jnp.ones(2)), ddln.lasso_path(np.eye(2), np.ones(2)))
    ).split("\n\n")
    assert [entry.splitlines()[0] for entry in entries] == [
        "@article{efron2004,",
        "@inproceedings{salimans2016,",
        "@article{osborne2000,",
    ]
    assert all(entry.endswith("\n}") for entry in entries)


def test_names_and_references():
    assert short_name("carlson1995") == "Carlson 1995"
    assert short_name("salimans2016") == "Salimans and Kingma 2016"
    assert short_name("zhao2026") == "Zhao et al. 2026"
    assert reference("zhao2026").startswith("Zhao et al.: Gradient Flow Dynamics")
    assert short_name("saxe2014") == "Saxe et al. 2014"
    assert reference("carlson1995") == (
        "Bille C. Carlson: Numerical Computation of Real or Complex Elliptic Integrals, Numerical Algorithms "
        "(1995)."
    )
    assert all(reference(key) for key in bibliography())
