"""The laws of momentum flows against SciPy, and the cases in which they do not apply."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

SAMPLES, DIM = 4, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SAMPLES, DIM))
Y = RNG.normal(size=SAMPLES)
LOSS = ddln.LeastSquares(X, Y, scale=0.5 / SAMPLES)
CHECKS = ("momentum_gap", "momentum_shrinkage", "momentum_scale", "momentum_energy")
TIMES = np.linspace(0.0, 400.0, 21)
FACTOR = 0.8
CONSTANT = ddln.ConstantDamping()


def start(depth, seed=4):
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], (depth, DIM)) * rng.uniform(0.3, 1.2, (depth, DIM))


LAYERS = start(2)


@eqx.filter_jit
def run(inertias, layers, ts, damping, coordinates):
    """A flow for each inertia, with its checks."""

    @jax.vmap
    def lanes(inertia):
        flow = ddln.momentum_flow(
            ddln.DeepDiagonal(layers, FACTOR),
            LOSS,
            TIMES[-1],
            inertia=inertia,
            damping=damping,
            ts=ts,
            coordinates=coordinates,
            solver=diffrax.Tsit5(),
            rtol=1e-9,
            atol=1e-11,
            throw=False,
        )
        asked = CHECKS if flow.record.pair is not None else ("momentum_gap", "momentum_energy")
        return flow, {name: getattr(theory, name)(flow, LOSS) for name in asked}

    return lanes(inertias)


def flows(first, second, layers=LAYERS, ts=TIMES, damping=CONSTANT, coordinates="auto"):
    # One shape, and so one compilation, for most tests.
    inertias = jnp.array([first, second])
    return run(inertias, jnp.asarray(layers), jnp.asarray(ts), damping, coordinates)


def lane(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def scipy_pair(inertia, ts):
    """u + v and u - v, their velocities, and int lambda h^2 as long as no sign changes, by DOP853."""
    first = np.stack([LAYERS[0] + LAYERS[1], LAYERS[0] - LAYERS[1]])

    def rates(t, state):
        w, v, _ = state.reshape(3, 2, DIM)
        g = X.T @ (X @ (FACTOR * (w[0] ** 2 - w[1] ** 2) / 4) - Y) / SAMPLES
        return np.concatenate(
            [
                v,
                -(v + FACTOR * np.stack([g, -g]) * w) / inertia,
                inertia * v**2 / np.maximum(w**2, 1e-6),
            ]
        ).reshape(-1)

    state = np.concatenate([first, 0 * first, 0 * first]).reshape(-1)
    rows = solve_ivp(rates, (0, ts[-1]), state, "DOP853", ts, rtol=1e-11, atol=1e-13).y
    return rows.T.reshape(-1, 3, 2, DIM)


@pytest.mark.parametrize("damping", [CONSTANT, ddln.VanishingDamping()])
def test_small_inertia_shrinks_the_gaps_and_predicts_the_end(damping):
    network = ddln.DeepDiagonal(LAYERS, FACTOR)
    enough = theory.sufficient_inertia(network, LOSS)
    paths, checks = flows(enough, 1.0, damping=damping)
    for name, check in checks.items():
        assert check.holds.all(), name
        # The numerical error leaves room to tell a wrong constant.
        if name in ("momentum_gap", "momentum_scale"):
            wrong = eqx.tree_at(lambda c: c.rhs, check, 2 * check.rhs)
            assert wrong.violated.all()
    path = lane(paths, 1)
    # Where the flow stands: with vanishing damping it has not yet converged.
    here = ddln.LeastSquares(X, X @ path.theta[-1])
    end = ddln.limit(theory.effective_start(path), here)
    np.testing.assert_allclose(end.theta, path.theta[-1], atol=1e-8)
    # The start as it was, theta = c (w_+^2 - w_-^2) / 2, predicts another end.
    plus, minus = (jnp.abs(LAYERS[0] + sign * LAYERS[1]) * FACTOR**0.5 / 2 for sign in (1, -1))
    plain = ddln.PowerDifference(plus, minus, 2)
    np.testing.assert_allclose(plain(), network(), atol=1e-14)
    assert float(jnp.abs(ddln.limit(plain, here).theta - path.theta[-1]).max()) > 1e-3


def test_the_recorded_squares_of_logarithmic_velocities_are_those_of_scipy():
    flow, _ = flows(1.0, 1.0)
    expected = scipy_pair(1.0, TIMES)[:, 2]
    np.testing.assert_allclose(flow.record.pair.riccati[0], expected, rtol=1e-6)


def test_large_inertia_can_let_the_gaps_grow():
    paths, checks = flows(30.0, 100.0)
    gaps = jnp.abs(jnp.diff(paths.parameterization.layers**2, axis=2))[:, :, 0]
    growth = gaps[:, -1] / jnp.abs(jnp.diff(LAYERS**2, axis=0))
    # Measured: more than twice as large, and the exact equation of the gap says so.
    assert float(growth.max()) > 2
    assert checks["momentum_gap"].holds.all()
    assert checks["momentum_energy"].holds.all()
    for name in ("momentum_shrinkage", "momentum_scale"):
        assert (checks[name].status == "hypothesis not met").all()
    changed = lane(paths, 0).record.pair.sign_changed[-1]
    grown = np.asarray(growth[0] > 1)
    assert grown.any()
    # Only coordinates at which a sign has changed.
    assert np.asarray(changed.any(axis=0))[grown].all()


def test_a_sign_that_changes_between_two_saved_times_is_seen():
    times = np.linspace(0, 400, 2001)
    signs = np.sign(scipy_pair(100.0, times)[:, 0])
    ever = np.cumsum(signs != signs[:1], axis=0) > 0
    # A time at which some sign has come back, so that the signs there do not tell.
    index = np.flatnonzero((ever & (signs == signs[:1])).any(axis=(1, 2)))[-1]
    path, checks = flows(100.0, 100.0, ts=np.full(len(TIMES), times[index]))
    np.testing.assert_array_equal(path.record.pair.sign_changed[0, -1], ever[index])
    assert checks["momentum_shrinkage"].status[0] == "hypothesis not met"


def test_the_effective_start_survives_scales_that_differ_by_many_orders():
    # Far from rest: a_+ and a_- differ by a factor of 1e6 and more.
    paths, _ = flows(100.0, 100.0, ts=TIMES / 2)
    path = lane(paths, 0)
    begin = theory.effective_start(path)
    assert float(jnp.max(begin.positive / begin.negative)) > 1e6
    here = ddln.LeastSquares(X, X @ path.theta[-1])
    np.testing.assert_allclose(ddln.limit(begin, here).theta, path.theta[-1], atol=1e-4)


def test_ties_are_not_compared():
    tied = LAYERS.copy()
    tied[1, 0] = -tied[0, 0]
    _, checks = flows(0.2, 0.2, layers=tied)
    compared = np.asarray(checks["momentum_shrinkage"].compared)[0]
    assert not compared[:, 0].any()
    assert compared[:, 1].any()
    assert checks["momentum_shrinkage"].holds.all()
    assert checks["momentum_scale"].holds.all()
    # Of u = -v the weight u + v is zero.
    compared = np.asarray(checks["momentum_scale"].compared)[0]
    assert not compared[:, 0, 0].any()
    assert compared[:, 1, 0].all()
    # Nor are times from which on nothing changes any more.
    for name in ("momentum_energy", "momentum_shrinkage"):
        rows = np.asarray(checks[name].compared).reshape(2, len(TIMES), -1).any(axis=2)
        assert rows[:, :3].all()
        assert not rows[:, 12:].any()


def test_the_equation_of_the_gaps_holds_for_three_layers():
    _, checks = flows(0.5, 10.0, layers=start(3), damping=ddln.VanishingDamping(4.0))
    for check in checks.values():
        assert check.holds.all()
    gap = checks["momentum_gap"]
    assert eqx.tree_at(lambda c: c.rhs, gap, 2 * gap.rhs).violated.all()


def test_sufficient_inertia_is_its_formula():
    loss = np.sum((X @ (FACTOR * LAYERS[0] * LAYERS[1]) - Y) ** 2) / (2 * SAMPLES)
    steepest = np.sqrt(loss / (2 * SAMPLES)) * np.linalg.norm(X, axis=0).max()
    found = theory.sufficient_inertia(ddln.DeepDiagonal(LAYERS, FACTOR), LOSS)
    np.testing.assert_allclose(found, 1 / (8 * FACTOR * steepest), rtol=1e-12)


def test_other_arguments_are_refused():
    paths, _ = flows(0.2, 0.2)
    path = lane(paths, 0)
    full = eqx.tree_at(lambda p: p.record.pair, path, None)
    for check in (theory.momentum_shrinkage, theory.momentum_scale):
        with pytest.raises(ValueError, match="in reduced coordinates"):
            check(full, LOSS)
    other = eqx.tree_at(lambda p: p.record, path, None)
    for name in CHECKS:
        with pytest.raises(ValueError, match=r"must be a `ddln.momentum_flow`"):
            getattr(theory, name)(other, LOSS)
    with pytest.raises(ValueError, match=r"must be a `ddln.momentum_flow`"):
        theory.effective_start(other)
    with pytest.raises(ValueError, match=r"needs two layers and a `ddln.LeastSquares`"):
        theory.sufficient_inertia(ddln.DeepDiagonal(start(3)), LOSS)
