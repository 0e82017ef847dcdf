"""Mirror flow against gradient flow on the weights, by SciPy, and its contract."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln.flows.states import Primal
from ddln.parameterizations import AbstractParameterization

# Here the time to compile counts, not the time to run.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

RNG = np.random.default_rng(0)
DIM = 4
X = RNG.normal(size=(3, DIM)) / np.sqrt(3)
Y = RNG.normal(size=3)
TIMES = np.array([0.1, 0.5, 2.0])
MIXING = np.eye(DIM) + 0.3 * np.eye(DIM, k=1)
POSITIVE = RNG.uniform(0.5, 1.2, 2 * DIM)
SIGNED = RNG.choice([-1.0, 1.0], (5, DIM)) * RNG.uniform(0.4, 1.3, (5, DIM))


class MixedSquares(AbstractParameterization):
    """theta = A w^2: no closed form, and a metric that is not diagonal."""

    w: jax.Array

    def effective(self):
        return MIXING @ jnp.square(self.w)

    @property
    def homogeneity(self):
        return 2


def deep(depth):
    def effective(w):
        return jnp.prod(w.reshape(depth, DIM), axis=0)

    def potential(w):
        return ddln.potential(ddln.DeepDiagonal(w.reshape(depth, DIM)))

    return effective, potential


def halves(w):
    return w[:DIM], w[DIM:]


def hypentropy(w):
    u, v = halves(w)
    return ddln.HypentropyPotential(u**2 - v**2, 2 * u * v, 4.0)


def numerical(w):
    return ddln.NumericalPotential(MixedSquares(w))


ZERO_LAST = np.stack([SIGNED[0], SIGNED[0], np.zeros(DIM)])
THREE_LAYERS = deep(3)

# Name: h, its potential as a function of the weights, the weights, and how to integrate.
CASES = {
    "entropy": (
        lambda w: w**2 / 2,
        lambda w: ddln.EntropyPotential(w**2 / 2),
        POSITIVE[:DIM],
        "dual",
        None,
    ),
    "power": (
        lambda w: w**4,
        lambda w: ddln.PowerPotential(w**4, 4),
        POSITIVE[:DIM],
        "primal",
        None,
    ),
    "hypentropy": (lambda w: w[:DIM] ** 2 - w[DIM:] ** 2, hypentropy, POSITIVE, "dual", None),
    "power difference": (
        lambda w: w[:DIM] ** 3 - w[DIM:] ** 3,
        lambda w: ddln.PowerDifferencePotential(*halves(w), 3),
        POSITIVE,
        "primal",
        None,
    ),
    "numerical": (
        lambda w: MIXING @ w**2,
        numerical,
        POSITIVE[:DIM],
        "dual",
        diffrax.Tsit5(),
    ),
    "three layers": (*THREE_LAYERS, SIGNED[:3].ravel(), "dual", diffrax.Dopri8()),
    "three layers, zero last": (*THREE_LAYERS, ZERO_LAST.ravel(), "dual", diffrax.Dopri8()),
}


def by_scipy(effective, weights):
    """theta and the dual of the gradient flow on the weights."""

    @jax.jit
    def velocity(w):
        theta, pull = jax.vjp(effective, w)
        slope = X.T @ (X @ theta - Y)
        return -jnp.concatenate([*pull(slope), slope])

    def field(_, state):
        return np.asarray(velocity(jnp.asarray(state[:-DIM])))

    start = np.concatenate([weights, np.zeros(DIM)])
    states = solve_ivp(field, (0, TIMES[-1]), start, "DOP853", TIMES, rtol=1e-11, atol=1e-13).y.T
    return np.stack([effective(w) for w in states[:, :-DIM]]), states[:, -DIM:]


@functools.cache
def program(potential, coordinates, solver):
    """Compiled once for all cases that share it."""

    @quick_jit
    def run(weights):
        flow = ddln.mirror_flow(
            potential(weights), ddln.LeastSquares(X, Y), TIMES[-1], ts=TIMES,
            coordinates=coordinates, solver=solver, rtol=1e-8, atol=1e-10, max_steps=500,
            throw=False,
        )  # fmt: skip
        return flow.theta, flow.dual, flow.loss, ddln.is_okay(flow.result)

    return run


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_gradient_flow_on_the_weights(name):
    effective, potential, weights, coordinates, solver = CASES[name]
    theta, dual, loss, okay = program(potential, coordinates, solver)(jnp.asarray(weights))
    expected, expected_dual = by_scipy(effective, weights)
    assert okay
    np.testing.assert_allclose(theta, expected, atol=1e-6)
    np.testing.assert_allclose(dual, expected_dual, atol=1e-6)
    np.testing.assert_allclose(loss, 0.5 * np.sum((expected @ X.T - Y) ** 2, axis=1), atol=1e-6)


def test_another_potential_gives_another_flow():
    effective, potential, weights, coordinates, solver = CASES["three layers"]
    theta = program(potential, coordinates, solver)(jnp.asarray(1.001 * weights))[0]
    assert np.abs(theta - by_scipy(effective, weights)[0]).max() > 1e-4


def test_random_networks_in_primal_coordinates():
    """Against the flow on the weights of all networks at once, by SciPy."""
    layers = np.random.default_rng(3).normal(size=(50, 3, DIM))

    @quick_jit
    @jax.vmap
    def run(layers):
        return ddln.mirror_flow(
            ddln.potential(ddln.DeepDiagonal(layers)), ddln.LeastSquares(X, Y), 5.0,
            coordinates="primal", rtol=1e-8, atol=1e-10, throw=False,
        ).theta[0]  # fmt: skip

    def velocity(_, w):
        u = w.reshape(layers.shape)
        slope = (u.prod(axis=1) @ X.T - Y) @ X
        others = [np.delete(u, j, axis=1).prod(axis=1) for j in range(3)]
        return -np.stack([other * slope for other in others], axis=1).ravel()

    end = solve_ivp(velocity, (0, 5), layers.ravel(), "DOP853", rtol=1e-9, atol=1e-11).y[:, -1]
    expected = end.reshape(layers.shape).prod(axis=1)
    np.testing.assert_allclose(run(layers), expected, atol=2e-6)


def test_any_loss_of_a_matrix():
    """A plain function as the loss, and so a dense Jacobian; theta' = -theta^3 from theta_0 = 1."""

    @quick_jit
    def run(start):
        q, loss = ddln.QuadraticPotential(start), lambda theta: 0.25 * jnp.sum(theta**4)
        settings = {"t1": 1.5, "rtol": 1e-8, "throw": False}
        return [
            ddln.mirror_flow(q, loss, coordinates=coordinates, **settings).theta
            for coordinates in ("dual", "primal")
        ]

    for theta in run(jnp.ones((2, 2))):
        np.testing.assert_allclose(theta, np.full((1, 2, 2), 0.5), rtol=1e-6)


def test_the_primal_velocity_needs_no_diagonal_metric():
    weights = jnp.asarray(POSITIVE[:DIM])
    here = MixedSquares(1.2 * weights)
    slope = jnp.asarray(RNG.normal(size=DIM))
    theta = here.effective()
    got, dual = quick_jit(lambda w: Primal(numerical(w)).velocity(theta, slope))(weights)
    np.testing.assert_allclose(got, -here.metric_product(slope), rtol=1e-9)
    np.testing.assert_array_equal(dual, -slope)


def test_close_to_the_ends_of_both_domains():
    """A coordinate of the entropy decays to zero; deep potentials of a small start saturate xi."""
    q = ddln.PowerDifferencePotential(np.full(2, 1e-2), np.full(2, 1e-2), 6)

    @quick_jit
    def both():
        decaying = ddln.mirror_flow(
            ddln.EntropyPotential(jnp.ones(1)),
            ddln.LeastSquares(np.ones((1, 1)), [-1.0]),
            1000.0,
            throw=False,
        )
        saturated = ddln.mirror_flow(
            q, ddln.LeastSquares(np.eye(2), [1.0, -0.5]), 1e10, throw=False
        )
        return decaying, saturated, q.dual_domain[1]

    decaying, saturated, end = both()
    # theta' = -2 theta (theta + 1).
    assert decaying.theta[-1, 0] == 0
    assert decaying.dual[-1, 0] < -900
    np.testing.assert_allclose(saturated.theta[-1], [1.0, -0.5], atol=1e-6)
    assert jnp.all(jnp.abs(saturated.dual[-1]) > 0.999 * end)
    assert ddln.is_okay(decaying.result)
    assert ddln.is_okay(saturated.result)
    assert saturated.method == "dual, Rodas5P"


def test_derivatives_match_finite_differences():
    """In primal coordinates; `test_gradient_grid.py` has the dual ones."""

    def run(weights, target, t1, adjoint=None):
        trajectory = ddln.mirror_flow(
            hypentropy(weights), ddln.LeastSquares(X, target), t1, coordinates="primal",
            solver=diffrax.Tsit5(), rtol=1e-10, atol=1e-12, adjoint=adjoint, max_steps=1000,
            throw=False,
        )  # fmt: skip
        return jnp.concatenate([trajectory.theta.ravel(), trajectory.dual.ravel()])

    arguments = tuple(jnp.asarray(x) for x in (POSITIVE, Y, 2.0))
    directions = tuple(jnp.asarray(RNG.normal(size=x.shape)) for x in arguments)
    covector = jnp.asarray(RNG.normal(size=2 * DIM))

    @quick_jit
    def derivatives(*x):
        steps = jnp.array([1e-5, -1e-5])
        moved = [
            a[None] + steps.reshape(-1, *(1,) * a.ndim) * d[None]
            for a, d in zip(x, directions, strict=True)
        ]
        ahead, behind = jax.vmap(run)(*moved)
        forward = functools.partial(run, adjoint=diffrax.ForwardMode())
        tangent = jax.jvp(forward, x, directions)[1]
        gradients = jax.vjp(run, *x)[1](covector)
        reverse = sum(jnp.sum(g * d) for g, d in zip(gradients, directions, strict=True))
        return (ahead - behind) / 2e-5, tangent, reverse

    expected, tangent, reverse = derivatives(*arguments)
    np.testing.assert_allclose(tangent, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(reverse, covector @ expected, rtol=1e-6, atol=1e-6)


def test_a_lane_that_fails_has_a_code_and_disturbs_no_other():
    starts = jnp.asarray(np.stack([POSITIVE, POSITIVE * np.nan, POSITIVE, POSITIVE]))
    targets, ends = jnp.stack([Y, Y, Y, Y * np.inf]), jnp.array([0.1, 0.1, 10.0, 0.1])

    @quick_jit
    @jax.vmap
    def run(weights, target, t1):
        return ddln.mirror_flow(
            hypentropy(weights), ddln.LeastSquares(X, target), t1, ts=t1[None], max_steps=12,
            throw=False,
        )  # fmt: skip

    lanes = run(starts, targets, ends)
    codes = [ddln.RESULTS[jax.tree.map(lambda c, i=i: c[i], lanes.result)] for i in range(4)]
    assert codes[0] == "successful"
    assert "initialization has NaN" in codes[1]
    assert "steps" in codes[2]
    assert "loss or its gradient is not finite" in codes[3]
    assert np.isfinite(lanes.theta).all(axis=(1, 2)).tolist() == [True, False, False, False]
    assert np.isinf(lanes.ts[:, 0]).tolist() == [False, True, True, True]
    alone = run(*(jnp.stack([x[0]] * 4) for x in (starts, targets, ends)))
    np.testing.assert_allclose(lanes.theta[0], alone.theta[0], rtol=1e-12)


def test_float32_stays_float32_and_exports_without_a_callback():
    def run(weights, X, y):
        q = ddln.potential(ddln.DeepDiagonal(weights))
        return jax.vmap(
            lambda target: (
                ddln.mirror_flow(
                    q, ddln.LeastSquares(X, target), 1.0, ts=[0.5, 1.0], rtol=1e-4, throw=False
                ).theta
            )
        )(y)

    arguments = [jnp.asarray(x, jnp.float32) for x in (SIGNED[:2], X, np.stack([Y, 2 * Y]))]
    exported = jax.export.export(jax.jit(run), platforms=["cpu", "cuda", "tpu"])(*arguments)
    (out,) = exported.out_avals
    assert out.dtype == jnp.float32
    assert out.shape == (2, 2, DIM)


def test_an_unsuccessful_flow_raises():
    loss = ddln.LeastSquares(X, Y)
    q = ddln.QuadraticPotential(np.zeros(DIM))
    with pytest.raises(eqx.EquinoxRuntimeError, match="maximum number of solver steps"):
        ddln.mirror_flow(q, loss, 2.0, max_steps=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": ddln.LeastSquares(X[:, :2], Y)}, "`potential` and `loss` must have the same th"),
        ({"loss": lambda theta: theta}, "`loss` must return a scalar"),
        ({"coordinates": "reduced"}, "`coordinates` must be one of 'dual', 'primal'"),
        ({"t1": -1.0}, "`t1` must be finite and positive"),
        ({"ts": [3.0]}, r"`ts` must lie in \[0, t1\]"),
        ({"rtol": 0.0}, "`rtol`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    usual = {
        "potential": ddln.QuadraticPotential(np.zeros(DIM)),
        "loss": ddln.LeastSquares(X, Y),
        "t1": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        ddln.mirror_flow(**{**usual, **arguments})
