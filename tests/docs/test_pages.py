"""The code of README and documentation, run as it is printed.

The examples of a page share their names and run in order. A `text` block that follows a `python` block is
what that one prints, with `...` for what depends on the machine.
"""

import contextlib
import doctest
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import ddln
from ddln import plots

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(page):
    """The code of each `python` block, with what it prints, or None where the page does not say."""
    blocks = FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
    after = [*blocks, ("", "")][1:]
    return [
        (code, text if following == "text" else None)
        for (language, code), (following, text) in zip(blocks, after, strict=True)
        if language == "python"
    ]


PAGES = [
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if examples(path.relative_to(ROOT))
]

# Not run, by words of the block, with the reason.
NOT_RUN = {
    "SLURMCluster(": "needs dask-jobqueue and Slurm",
    "billion.zarr": "the call of the page before, with workers",
}

# Numbers that make an example as quick as a test must be.
SMALLER = {
    "docs/large-sweeps.md": {"10**6": "3"},
    "docs/on-a-gpu.md": {"10**5": "3"},
    "docs/theory/discrete-steps.md": {"100_000": "20", "10_000": "20", "40_000": "20"},
}


def given(page):
    """What the text of a page introduces in words."""
    if not page.startswith("docs/theory/"):
        return {}
    X, y = jax.random.normal(jax.random.key(0), (5, 12)) / 5, jnp.linspace(-1, 1, 5)
    network = ddln.DeepDiagonal.zero_last(jnp.ones(12), 2, 0.3)
    return {
        "ddln": ddln,
        "jax": jax,
        "jnp": jnp,
        "key": jax.random.key(1),
        "loss": ddln.LeastSquares(X, y),
        "network": network,
        "optax": optax,
        "plots": plots,
        "starts": jax.vmap(lambda scale: ddln.DeepDiagonal(scale * network.layers))(jnp.ones(2)),
        "X": X,
        "y": y,
    }


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"} | given(page)
    # As users run it: optax promotes dtypes.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for code, expected in examples(page):
            if any(words in code for words in NOT_RUN):
                continue
            for large, small in SMALLER.get(page, {}).items():
                code = code.replace(large, small)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, page, "exec"), names)
            if expected is not None:
                assert prints(expected, printed.getvalue()), printed.getvalue()
        CLAIMS.get(page, lambda names: None)(names)
    plt.close("all")
    jax.clear_caches()  # pages share no programs, and all of them together take gigabytes


def prints(expected, printed):
    return doctest.OutputChecker().check_output(expected, printed, PRINTED)


def test_what_is_printed_is_compared():
    assert prints("error ...e-08\n", "error 2.0e-08\n")
    assert not prints("error ...e-08\n", "error 2.0e-07\n")


def readme(names):
    loss, end = names["loss"], names["end"]
    assert ddln.theory.pl_rate(names["trajectory"], loss).holds
    np.testing.assert_allclose(loss.X @ end.theta, loss.y, atol=1e-9)


def own_map(names):
    invariants = names["invariants"]
    np.testing.assert_allclose(invariants, np.tile(invariants[:1], (20, 1)), atol=1e-5)
    assert names["identity"].holds
    assert (names["laws"].count, names["laws"].certified) == (4, True)
    rate = ddln.theory.pl_rate_along_path(names["flow"], names["completion"])
    assert rate.status != "violated"


def designs(names):
    assert names["risks"][-1] < 0.6 * names["risks"][0]
    end, risk, test = names["end"], names["risk"], names["test"]
    assert risk(end(names["designed"]), test) < 0.8 * risk(end(names["common"]), test)
    assert names["distances"][-1] < names["distances"][0] / 2
    # The best possible is 1/4.
    assert 0.18 < np.exp(-names["slownesses"][-1]) < 0.25
    assert np.all(np.isfinite(names["errors"]))
    assert np.all(np.isfinite(names["without_first"]))


# What the text says of its examples, beside what they print.
CLAIMS = {
    "README.md": readme,
    "docs/bring-your-own-map.md": own_map,
    "docs/differentiate.md": designs,
}
