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
CHECKS = ("gap", "shrinkage", "scale", "energy")
TIMES = np.linspace(0.0, 400.0, 21)


def start(depth, seed=4):
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], (depth, DIM)) * rng.uniform(0.3, 1.2, (depth, DIM))


LAYERS = start(2)


def flows(inertias, damping=None, layers=LAYERS, factor=1.0, ts=TIMES, coordinates="auto"):
    """A flow for each inertia, with its checks."""

    @jax.jit
    @jax.vmap
    def run(inertia):
        flow = ddln.momentum_flow(
            ddln.DeepDiagonal(layers, factor),
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
        asked = CHECKS if flow.record.pair is not None else ("gap", "energy")
        return flow, {name: getattr(theory, f"momentum_{name}")(flow, LOSS) for name in asked}

    return run(jnp.asarray(inertias))


def lane(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


@pytest.mark.parametrize("damping", [ddln.ConstantDamping(), ddln.VanishingDamping()])
def test_small_inertia_shrinks_the_gaps_and_predicts_the_end(damping):
    network = ddln.DeepDiagonal(LAYERS, 0.8)
    enough = theory.sufficient_inertia(network, LOSS)
    paths, checks = flows([enough, 1.0], damping, factor=0.8)
    for name, check in checks.items():
        assert check.holds.all(), name
        # The numerical error leaves room to tell a wrong constant.
        if name in ("gap", "scale"):
            wrong = eqx.tree_at(lambda c: c.rhs, check, 2 * check.rhs)
            assert wrong.violated.all()
    for index in range(2):
        path = lane(paths, index)
        # Where the flow stands: with vanishing damping it has not yet converged.
        here = ddln.LeastSquares(X, X @ path.theta[-1])
        end = ddln.limit(theory.effective_start(path), here)
        np.testing.assert_allclose(end.theta, path.theta[-1], atol=1e-8)
        plain = ddln.limit(network, here).theta
        assert float(jnp.abs(plain - path.theta[-1]).max()) > 1e-3


def test_the_recorded_squares_of_logarithmic_velocities_are_those_of_scipy():
    inertia, factor, end = 1.0, 0.8, 40.0
    first = np.stack([LAYERS[0] + LAYERS[1], LAYERS[0] - LAYERS[1]])

    def rates(t, state):
        w, v, _ = state.reshape(3, 2, DIM)
        g = X.T @ (X @ (factor * (w[0] ** 2 - w[1] ** 2) / 4) - Y) / SAMPLES
        return np.concatenate(
            [v, -(v + factor * np.stack([g, -g]) * w) / inertia, inertia * (v / w) ** 2]
        ).reshape(-1)

    state = np.concatenate([first, 0 * first, 0 * first]).reshape(-1)
    rows = solve_ivp(rates, (0, end), state, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    flow, _ = flows([inertia], factor=factor, ts=np.array([end]))
    np.testing.assert_allclose(
        flow.record.pair.riccati[0, -1], rows.reshape(3, 2, DIM)[2], rtol=1e-6
    )


def test_large_inertia_can_let_the_gaps_grow():
    paths, checks = flows([30.0, 100.0])
    gaps = jnp.abs(jnp.diff(paths.parameterization.layers**2, axis=2))[:, :, 0]
    growth = gaps[:, -1] / jnp.abs(jnp.diff(LAYERS**2, axis=0))
    # Measured: more than twice as large, and the exact equation of the gap says so.
    assert float(growth.max()) > 2
    assert checks["gap"].holds.all()
    assert checks["energy"].holds.all()
    for name in ("shrinkage", "scale"):
        assert (checks[name].status == "hypothesis not met").all()
    changed = lane(paths, 0).record.pair.sign_changed[-1]
    grown = np.asarray(growth[0] > 1)
    assert grown.any()
    # Only coordinates at which a sign has changed.
    assert np.asarray(changed.any(axis=0))[grown].all()


def test_a_sign_that_changes_between_two_saved_times_is_seen():
    dense, _ = flows([100.0], ts=np.linspace(0, 400, 2001))
    layers = np.asarray(dense.parameterization.layers)[0]
    both = np.stack([layers[:, 0] + layers[:, 1], layers[:, 0] - layers[:, 1]], axis=1)
    signs = np.sign(both)
    ever = (signs != signs[:1]).any(axis=0)
    back = ever & (signs[-1] == signs[0])
    # The signs at the end do not tell.
    assert back.any()
    only_end, checks = flows([100.0], ts=np.array([400.0]))
    seen = only_end.record.pair.sign_changed[0, -1]
    np.testing.assert_array_equal(seen, ever)
    assert checks["shrinkage"].status[0] == "hypothesis not met"
    np.testing.assert_allclose(only_end.theta[0, -1], dense.theta[0, -1], atol=1e-6)


@pytest.mark.parametrize("damping", [None, ddln.VanishingDamping(4.0)])
def test_the_equation_of_the_gaps_holds_for_three_layers(damping):
    _, checks = flows([0.5, 10.0], damping, layers=start(3), factor=1.3)
    for check in checks.values():
        assert check.holds.all()
    gap = checks["gap"]
    assert eqx.tree_at(lambda c: c.rhs, gap, 2 * gap.rhs).violated.all()


def test_ties_are_not_compared():
    tied = LAYERS.copy()
    tied[1, 0] = -tied[0, 0]
    _, checks = flows([0.2], layers=tied)
    compared = np.asarray(checks["shrinkage"].compared)[0]
    assert not compared[:, 0].any()
    assert compared[:, 1].any()
    assert checks["shrinkage"].holds.all()
    assert checks["scale"].holds.all()


def test_other_arguments_are_refused():
    deep = ddln.DeepDiagonal(start(3))
    flow = ddln.gradient_flow(ddln.DeepDiagonal(LAYERS), LOSS, 0.1)
    for name in CHECKS:
        with pytest.raises(ValueError, match=r"must be a `ddln.momentum_flow`"):
            getattr(theory, f"momentum_{name}")(flow, LOSS)
    full, _ = flows([1.0], layers=LAYERS, ts=None, coordinates="full")
    for check in (theory.momentum_shrinkage, theory.momentum_scale):
        with pytest.raises(ValueError, match="in reduced coordinates"):
            check(lane(full, 0), LOSS)
    with pytest.raises(ValueError, match=r"needs two layers and a `ddln.LeastSquares`"):
        theory.sufficient_inertia(deep, LOSS)
