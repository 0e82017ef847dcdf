"""What `ddln sweep --observe` keeps of a flow beside theta and outcomes: margins and limits (`_flows`)."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import ddln
from ddln.cli import _figures, main
from ddln.cli._flows import _margin
from ddln.theory import Check


def check(relation, lhs, rhs, tolerance, compared=(True, True), met=True):
    arrays = (jnp.asarray(one) for one in (lhs, rhs))
    hypotheses = {"met": jnp.asarray(met)}
    return Check(
        "a", "b", "c", relation, ("time",), *arrays, tolerance, jnp.asarray(compared), hypotheses
    )


def test_margins_are_one_far_from_the_limit_and_zero_at_it():
    cases = [
        (check("<=", [1.0, 0.0], [3.0, 5.0], 0.0), 0.5),  # (3 - 1) / (1 + 3)
        (check("<=", [1.0, 3.0], [3.0, 1.0], 0.0), -0.5),
        (check("<=", [1.0, 3.0], [3.0, 1.0], 0.0, compared=(True, False)), 0.5),
        (check("==", [1.0, 2.0], [1.0, 2.3], 0.4), 0.25),  # 1 - 0.3 / 0.4
        (check("==", [1.0, 2.0], [1.0, 2.8], 0.4), -1.0),
        (check("<=", [1.0, 0.0], [3.0, 5.0], 0.0, compared=(False, False)), np.nan),
        (check("<=", [1.0, 0.0], [3.0, 5.0], 0.0, met=False), np.nan),
    ]
    for one, expected in cases:
        # The tolerance of a check includes rounding.
        np.testing.assert_allclose(_margin(one), expected, rtol=1e-12)
        if np.isfinite(expected):
            assert bool(one.violated) == (expected < 0)


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 9))
    rows = [",".join(map(str, [*row, row[0] - row[1]])) for row in X]
    file = tmp_path / "table.csv"
    file.write_text("\n".join([",".join([*"abcdefghi", "price"]), *rows]))
    return file


def test_limits_and_margins_of_a_run(table, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        _figures.plots,
        "phase_pair",
        lambda *arguments, **options: (
            drawn.append((arguments, options)) or _pair(*arguments, **options)
        ),
    )
    out = tmp_path / "run"
    main(
        ["sweep", "--data", str(table), "--depths", "2", "--scale-count", "2", "--initializations", "2",
         "--scales", "0.01", "1", "--t1", "10", "--saves", "8", "--observe", "ends", "margins", "limits",
         "--out", str(out)]
    )  # fmt: skip
    data = xarray.open_zarr(out / "results.zarr").load()
    kept = json.loads((out / "summary.json").read_text())["standardization"]
    lines = np.loadtxt(table, delimiter=",", skiprows=1)[kept["train_rows"]]
    X, y = (part - part.mean(0) for part in (lines[:, :-1], lines[:, -1]))
    X, y = X / np.linalg.norm(X, axis=0), y / np.linalg.norm(y)
    # The limit fits the data, which the flow has not done yet from the smaller scale.
    limits, ends = (
        data[name].sel(depth=2, initialization=0).to_numpy() for name in ("limit", "end")
    )
    assert np.abs(limits @ X.T - y).max() < 1e-8
    assert np.linalg.norm(ends[0] @ X.T - y) > 0.5
    # arcsinh(2 theta / scale^2) / 2 = X^T nu from u = scale, v = 0.
    for theta, scale in zip(limits, (0.01, 1.0), strict=True):
        dual = np.arcsinh(2 * theta / scale**2)
        rest = dual - X.T @ np.linalg.lstsq(X.T, dual)[0]
        assert np.linalg.norm(rest) < 1e-6 * np.linalg.norm(dual)
    assert "check_conservation" not in data
    margins = data["margin_monotone_loss"].to_numpy()
    assert np.all((margins >= 0) & (margins <= 1))
    # The picture shows the limits, at which all flows have converged.
    ((_, _, to_l1, _), options) = drawn[0]
    least = ddln.minimum_l1(X, y)
    expected = np.linalg.norm(limits - least, axis=1) / np.linalg.norm(least)
    np.testing.assert_allclose(to_l1[0], expected, atol=1e-8)
    assert options["unconverged"] is None
    page = (out / "explore.html").read_text()
    for label in (
        "distance to the limit",
        "margin: monotone loss",
        "effective sparsity, t = infinity",
    ):
        assert f'"label": "{label}"' in page


_pair = _figures.plots.phase_pair
