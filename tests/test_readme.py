"""The README's example, run as it is printed."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_and_its_theorems_hold():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(example, names)
    loss, end = names["loss"], names["end"]
    assert names["ddln"].theory.pl_rate(names["trajectory"], loss).holds
    np.testing.assert_allclose(loss.X @ end.theta, loss.y, atol=1e-9)
