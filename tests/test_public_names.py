"""What `import ddln` gives, and what it leaves for later."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import ddln

# The submodules must come by attribute, without an import statement of their own.
PROGRAM = """
import sys

import jax

before = dict(jax.config.values)
import ddln

assert jax.config.values == before
assert not {"ddln.asymptotics", "ddln.theory", "ddln.plots", "matplotlib"} & set(sys.modules)
assert {"asymptotics", "plots", "problems", "state_evolution", "theory"} <= set(dir(ddln))
assert not {"importlib", "Any", "TYPE_CHECKING"} & set(dir(ddln))
print(ddln.theory.gain.__name__, ddln.plots.layers.__name__, ddln.problems.diabetes.__name__)
assert ddln.state_evolution is ddln.asymptotics.state_evolution
"""


def test_submodules_are_imported_when_used():
    output = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True)
    assert output.split() == ["gain", "layers", "diabetes"]


def test_unknown_name():
    with pytest.raises(AttributeError, match="'ddln' has no attribute 'gradient'"):
        _ = ddln.gradient  # pyright: ignore[reportAttributeAccessIssue]


def test_version():
    assert ddln.__version__ == version("ddln")


def test_a_store_shows_its_place():
    store = ddln.SweepStore("runs/a.zarr", ("depth", "lane"), {"depth": [2, 3]})
    assert repr(store) == "SweepStore('runs/a.zarr', dims=('depth', 'lane'))"
    assert repr(store.at(depth=3)).endswith(", at {'depth': 3})")
