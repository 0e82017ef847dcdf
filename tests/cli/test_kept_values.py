"""What `ddln sweep --observe` keeps of a flow beside theta and outcomes: margins and limits (`_flows`)."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.cli import _figures
from ddln.cli._data import Split
from ddln.cli._experiment import Experiment, Outcome
from ddln.cli._flows import Observe, Starts, _margin
from ddln.cli._options import SweepOptions
from ddln.theory import Check

SCALES = (0.01, 1.0)


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


@pytest.fixture(scope="module")
def kept():
    """Data, and what is kept of flows from two scales that stop early."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 5))
    y = X[:, 0] - X[:, 1]
    loss = ddln.LeastSquares(X, y)
    starts = Starts(jax.random.key(0), jnp.array(SCALES), 2, 5)
    observe = Observe(loss, kept=("ends", "limits"))

    @eqx.filter_jit
    @eqx.filter_vmap
    def run(index):
        return observe(ddln.gradient_flow(starts(index), loss, 0.5, throw=False))

    return X, y, jax.tree.map(np.asarray, run(jnp.arange(2)))


def test_limits_are_those_of_the_flow(kept):
    X, y, found = kept
    limits, ends = found["limit"], found["end"]
    # The limit fits the data, which the flow has not done yet from the smaller scale.
    assert np.abs(limits @ X.T - y).max() < 1e-8
    assert np.linalg.norm(ends[0] @ X.T - y) > 0.5 * np.linalg.norm(y)
    # arcsinh(2 theta / scale^2) = 2 X^T nu from u = scale, v = 0.
    for theta, scale in zip(limits, SCALES, strict=True):
        dual = np.arcsinh(2 * theta / scale**2)
        rest = dual - X.T @ np.linalg.lstsq(X.T, dual)[0]
        assert np.linalg.norm(rest) < 1e-6 * np.linalg.norm(dual)


def a_sweep(values):
    """Two lanes that have not converged."""
    ts, loss = np.full((2, 1), 0.5), np.full((2, 1), 0.1)
    return ddln.SweepResult(ts, None, loss, np.zeros(2, np.int32), {}, values, "made up")


def test_the_phase_picture_shows_limits_where_they_were_kept(kept, monkeypatch):
    X, y, found = kept
    split = Split("made up", tuple("abcde"), X, y, X[:0], y[:0], {})
    experiment = Experiment(split, SweepOptions(scales=SCALES, scale_count=2))
    drawn = []

    def draw(scales, depths, to_l1, to_l2, *, unconverged):
        drawn.append((to_l1, unconverged))
        return SimpleNamespace(figure=None), None

    monkeypatch.setattr(_figures.plots, "phase_pair", draw)
    least = ddln.minimum_l1(X, y)
    for name in ("limit", "end"):
        values = {"end": found["end"], name: found[name]}
        outcome = Outcome(2, a_sweep(values), 0.0)
        assert _figures._kept([outcome])
        _figures._phase([outcome], experiment, [2])
        to_l1, unconverged = drawn.pop()
        distance = np.linalg.norm(found[name] - least, axis=1) / np.linalg.norm(least)
        np.testing.assert_allclose(to_l1, [distance], atol=1e-12)
        # At infinity all flows have converged.
        assert (unconverged is None) == (name == "limit")
    assert not _figures._kept([Outcome(2, a_sweep({}), 0.0)])
