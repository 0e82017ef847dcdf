"""The code of the page "differentiate through training", as it is printed, and what it claims."""

import re
from pathlib import Path

import jax
import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "differentiate.md"


def test_the_page_runs():
    names = {"__name__": "page"}
    # As users run it: optax promotes dtypes.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for example in re.findall(
            r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
        ):
            exec(example, names)
        check(names)


def check(names):
    assert names["risks"][-1] < 0.6 * names["risks"][0]
    end, risk, test = names["end"], names["risk"], names["test"]
    assert risk(end(names["designed"]), test) < 0.8 * risk(end(names["common"]), test)
    assert names["distances"][-1] < names["distances"][0] / 2
    # The best possible is 1/4.
    assert 0.18 < np.exp(-names["slownesses"][-1]) < 0.25
    assert np.all(np.isfinite(names["errors"]))
    assert np.all(np.isfinite(names["without_first"]))
