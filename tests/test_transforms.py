"""Every public numerical function through jit, vmap, jvp and vjp, in two precisions, on three platforms.

A row is a function of one array to one array. Its results must be finite and of its dtype, the same under
every transformation, its derivatives those of central differences, and its program without a host
callback, so that it lowers for CPU, CUDA and TPU.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import diffrax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from precision import rounded_products

import ddln
from ddln import theory
from ddln.flows.states import weight_states
from ddln.potentials import potential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))
Y = RNG.normal(size=3)
LAYERS = RNG.choice([-1.0, 1.0], (3, 4)) * RNG.uniform(0.5, 1.5, (3, 4))
THETA = RNG.normal(size=4)
LABELS = np.array([1.0, -1.0, 1.0])
# Of central differences.
STEP = 1e-5


class Row(NamedTuple):
    function: Callable
    argument: np.ndarray
    # Forward mode where reverse mode is the default, and the other way round.
    forward: Callable | None = None


def squares(like):
    return ddln.LeastSquares(jnp.asarray(X, like.dtype), jnp.asarray(Y, like.dtype))


def flow(solver, adjoint=None):
    def run(layers):
        settings = {"rtol": 1e-8, "atol": 1e-10} if layers.dtype == jnp.float64 else {"rtol": 1e-4}
        return ddln.gradient_flow(
            ddln.DeepDiagonal(layers),
            squares(layers),
            1.0,
            ts=[0.5, 1.0],
            solver=solver,
            adjoint=adjoint,
            throw=False,
            **settings,
        )

    return run


TS = np.linspace(0.0, 1.0, 5)


def straight(layers):
    """A trajectory of weights that shrink in proportion, so that no flow is compiled for a check."""
    ts = jnp.asarray(TS, layers.dtype)
    start, loss = ddln.DeepDiagonal(layers), squares(layers)
    networks = jax.vmap(ddln.DeepDiagonal)(layers[None] * (1 - ts / 4)[:, None, None])
    theta = jax.vmap(lambda one: one.effective())(networks)
    return ddln.Trajectory(
        initial=start,
        ts=ts,
        parameterization=networks,
        theta=theta,
        loss=jax.vmap(loss)(theta),
        dual=theta - theta[:1],
        result=ddln.RESULTS.successful,
        stats={"num_accepted_steps": jnp.asarray(4)},
        rtol=jnp.asarray(1e-6, layers.dtype),
        atol=jnp.asarray(1e-9, layers.dtype),
        method="straight",
        space=weight_states(start, "auto", decays=False),
    )


def check_row(check):
    def run(layers):
        found = check(straight(layers), squares(layers))
        return jnp.concatenate([jnp.ravel(found.lhs), jnp.ravel(found.rhs)])

    return Row(run, LAYERS)


def potential_row(method, argument):
    """A method of the potential of a network, as a function of the network's layers and the argument."""

    def run(layers):
        return getattr(potential(ddln.DeepDiagonal(layers)), method)(
            jnp.asarray(argument, layers.dtype)
        )

    return Row(run, LAYERS)


def event_flow(layers, adjoint=None):
    return ddln.gradient_flow(
        ddln.DeepDiagonal(layers),
        squares(layers),
        1.0,
        event=ddln.GradientNormBelow(1e-3),
        solver=diffrax.Tsit5(),
        adjoint=adjoint,
        throw=False,
        rtol=1e-8 if layers.dtype == jnp.float64 else 1e-4,
    ).theta


def product_row(make):
    """M theta of a parameterization made from an array."""

    def run(weights):
        parameterization = make(weights)
        return parameterization.metric_product(parameterization())

    return Row(run, LAYERS)


def two_layers(layers):
    """A trajectory of two layers with what a descent records, so that none is compiled."""
    run = straight(layers[:2])
    return dataclasses.replace(
        run,
        record=ddln.flows.TwoLayerFactors(
            1 + run.theta[:, None] / 9 * jnp.ones((1, 2, 1), layers.dtype), 1.0
        ),
    )


def products(w):
    return ddln.MatrixFactorization(w[:, :2], w[:, 2:])


def parameterized(method):
    return Row(lambda u: method(ddln.DeepDiagonal(u)), LAYERS)


def pointwise(prediction, target):
    return jnp.exp(prediction) - target * prediction


TABLE = {
    "DeepDiagonal": parameterized(lambda p: p()),
    "DeepDiagonal.jacobian": parameterized(lambda p: p.jacobian()),
    "DeepDiagonal.metric": parameterized(lambda p: p.metric()),
    "DeepDiagonal.metric_diagonal": parameterized(lambda p: p.metric_diagonal()),
    "DeepDiagonal.metric_product": parameterized(lambda p: p.metric_product(p())),
    "DeepDiagonal.canonical": parameterized(lambda p: p.canonical().gaps),
    "CanonicalForm.layers": parameterized(lambda p: p.canonical().layers(p())),
    "CanonicalForm.speed_slope": parameterized(lambda p: p.canonical().speed_slope(p())),
    "CanonicalForm.effective_slope": parameterized(lambda p: p.canonical().effective_slope(p())),
    "DeepDiagonal.zero_last": Row(lambda u: ddln.DeepDiagonal.zero_last(u, 3, 0.5).layers, THETA),
    "DeepDiagonal.balanced": Row(lambda u: ddln.DeepDiagonal.balanced(u, 3).layers, THETA),
    "Identity": Row(lambda t: ddln.Identity(t).metric_product(t), THETA),
    "Square": product_row(ddln.Square),
    "Power": product_row(lambda w: ddln.Power(w, 3)),
    "PowerDifference": product_row(lambda w: ddln.PowerDifference(w[0], w[1], 3)),
    "MatrixFactorization": product_row(lambda w: ddln.MatrixFactorization(w, 2 * w)),
    "SymmetricFactorization": product_row(ddln.SymmetricFactorization),
    "DeepMatrixFactorization": product_row(lambda w: ddln.DeepMatrixFactorization([w, w.T, w])),
    "WeightNorm": product_row(lambda w: ddln.WeightNorm(w[0, 0], w[1])),
    "Composed": product_row(lambda w: ddln.Composed(ddln.Square, ddln.WeightNorm(w[0, 0], w[1]))),
    "FromFunction": product_row(lambda w: ddln.FromFunction(jnp.sin, w)),
    "limit": Row(lambda u: ddln.limit(ddln.DeepDiagonal(u), squares(u), throw=False).theta, LAYERS),
    "limit of PowerDifference": Row(
        lambda u: (
            ddln.limit(
                ddln.PowerDifference(jnp.abs(u[0]), jnp.abs(u[1]), 3), squares(u), throw=False
            ).theta
        ),
        LAYERS,
    ),
    "Sum": product_row(
        lambda w: ddln.Sum(
            ddln.Constant(np.ones(4, w.dtype)), ddln.DeepDiagonal(w), ddln.Power(jnp.abs(w[0]), 2.5)
        )
    ),
    "FourVector": product_row(lambda w: ddln.FourVector(w[0], w[1], w[2], w[0])),
    "train_sequence": Row(
        lambda u: (
            ddln.train_sequence(
                ddln.DeepDiagonal(u),
                [squares(u), ddln.LeastSquares(squares(u).X[:, ::-1], squares(u).y)],
                throw=False,
            ).theta
        ),
        LAYERS,
    ),
    "Grouped": product_row(lambda w: ddln.Grouped(w[:2, :3], w[2], [[0, 3], [1], [2]])),
    "Tied": product_row(lambda w: ddln.Tied(w, [2, 1, 1])),
    "Sum.two_layers": Row(
        lambda w: (
            ddln.Sum(ddln.FourVector(w[0], w[1], w[2], w[0]), ddln.DeepDiagonal(w[1:], -1.0))
            .two_layers()
            .layers
        ),
        LAYERS,
    ),
    "limit of Sum": Row(
        lambda u: (
            ddln.limit(
                ddln.Sum(ddln.DeepDiagonal(u), ddln.DeepDiagonal(u[:2], 0.5)),
                squares(u),
                throw=False,
            ).theta
        ),
        LAYERS,
    ),
    "Softmax": Row(
        lambda t: ddln.Softmax(jnp.asarray(X, t.dtype), np.array([0, 2, 1]))(t.T), LAYERS
    ),
    "vanishing_limit": Row(
        lambda u: (
            ddln.vanishing_limit(
                ddln.DeepDiagonal(u), squares(u), max_plateaus=6, throw=False
            ).theta
        ),
        LAYERS,
    ),
    "l1_weights": parameterized(ddln.l1_weights),
    "regime_exponent": parameterized(
        lambda p: ddln.regime_exponent(p, jnp.asarray(THETA, p.layers.dtype))
    ),
    "relative_distance": Row(lambda t: ddln.relative_distance(t, THETA[::-1]), THETA),
    "effective_sparsity": Row(ddln.effective_sparsity, THETA),
    "l1_margin": Row(lambda t: ddln.l1_margin(t, X.astype(t.dtype), LABELS.astype(t.dtype)), THETA),
    "margin_stationarity": parameterized(
        lambda p: (
            ddln.margin_stationarity(
                p, X.astype(p.layers.dtype), LABELS.astype(p.layers.dtype)
            ).misalignment
        )
    ),
    "LearningRates": product_row(
        lambda w: ddln.LearningRates(ddln.MatrixFactorization(w, 2 * w), (0.1, 1.0))
    ),
    "commutator": Row(lambda w: theory.commutator(products(w), points=1).lhs, LAYERS),
    "integrability": Row(lambda w: theory.integrability(products(w), points=1).lhs, LAYERS),
    "regularity": Row(lambda w: theory.regularity(products(w), points=1).rhs, LAYERS),
    "metric_spectrum": Row(lambda u: theory.metric_spectrum(straight(u)), LAYERS),
    "LeastSquares": Row(lambda t: squares(t)(t), THETA),
    "LeastSquares.gradient": Row(lambda t: squares(t).gradient(t), THETA),
    "LeastSquares.minimizer": Row(lambda x: ddln.LeastSquares(x, x[:, 0] + 1).minimizer, X),
    "LeastSquares.pl_constant": Row(lambda x: ddln.LeastSquares(x, x[:, 0]).pl_constant, X),
    "Logistic.gradient": Row(
        lambda t: ddln.Logistic(jnp.asarray(X, t.dtype), jnp.asarray(LABELS, t.dtype)).gradient(t),
        THETA,
    ),
    "GeneralizedLinear.curvature": Row(
        lambda t: ddln.GeneralizedLinear(
            jnp.asarray(X, t.dtype), jnp.asarray(Y, t.dtype), pointwise
        ).curvature(t),
        THETA,
    ),
    # Dynamics with their own solvers stand in `test_dynamics_grid.py`.
    "gradient_flow Tsit5": Row(
        lambda u: flow(diffrax.Tsit5())(u).theta,
        LAYERS,
        lambda u: flow(diffrax.Tsit5(), diffrax.ForwardMode())(u).theta,
    ),
    "gradient_flow RKC": Row(
        lambda u: flow(ddln.RKC(reverse=True))(u).theta,
        LAYERS,
        lambda u: flow(ddln.RKC(), diffrax.ForwardMode())(u).theta,
    ),
    "gradient_flow event": Row(
        event_flow, LAYERS, lambda u: event_flow(u, adjoint=diffrax.ForwardMode())
    ),
    "mirror_descent": Row(
        lambda u: (
            ddln.mirror_descent(
                ddln.EntropyPotential(u[0] ** 2), squares(u), 0.1, 5, throw=False
            ).theta
        ),
        LAYERS,
    ),
    "gain": Row(lambda u: theory.gain(two_layers(u)).scale, LAYERS),
    "gain_identity": Row(lambda u: theory.gain_identity(two_layers(u), squares(u)).lhs, LAYERS),
    "gain_optimality": Row(lambda u: theory.gain_optimality(two_layers(u), squares(u)).lhs, LAYERS),
    "sharpness": parameterized(lambda p: theory.sharpness(p, squares(p.layers))),
    "sigma": parameterized(theory.sigma),
    **{
        check.__name__: check_row(check)
        for check in (
            theory.bregman_decrease,
            theory.bregman_rate,
            theory.conservation,
            theory.gap_recursion,
            theory.metric_lower_bound,
            theory.mirror_identity,
            theory.mirror_optimality,
            theory.monotone_loss,
            theory.pl_rate,
            theory.pl_rate_along_path,
            theory.pl_rate_zero_last,
            theory.sign_preservation,
            theory.squared_layer_rate,
            theory.tangent_kernel_rate,
        )
    },
    "assumption_a": parameterized(lambda p: theory.assumption_a(p).lhs),
    "potential.value": potential_row("value", THETA),
    "potential.mirror_map": potential_row("mirror_map", THETA),
    "potential.inverse_mirror_map": potential_row("inverse_mirror_map", THETA / 10),
    "potential.conjugate": potential_row("conjugate", THETA / 10),
    "potential.hessian_diagonal": potential_row("hessian_diagonal", THETA),
    "potential.bregman": Row(
        lambda t: potential(ddln.DeepDiagonal(jnp.asarray(LAYERS, t.dtype))).bregman(t, 2 * t),
        THETA,
    ),
}


class Run:
    """A row in lanes: at its argument, and at two that are moved for differences."""

    def __init__(self, name, row):
        self.name, self.row = name, row
        rng = np.random.default_rng(1)
        self.direction = rng.normal(size=row.argument.shape)
        self.lanes = jax.jit(jax.vmap(row.function))

    def arguments(self, dtype=np.float64):
        moves = np.stack([0 * self.direction, self.direction, -self.direction])
        return jnp.asarray(self.row.argument + STEP * moves, dtype)

    @functools.cached_property
    def values(self):
        return self.lanes(self.arguments())


# The tests of a row share two programs: one for each precision.
@pytest.fixture(scope="module", params=sorted(TABLE))
def run(request):
    return Run(request.param, TABLE[request.param])


def test_jit_vmap_jvp_and_vjp_agree_with_differences(run):
    here, ahead, behind = run.values
    difference = (ahead - behind) / (2 * STEP)
    covector = np.random.default_rng(2).normal(size=difference.shape)

    @jax.jit
    def derivatives(x, direction, covector):
        value, vjp = jax.vjp(run.row.function, x)
        _, forward = jax.jvp(run.row.forward or run.row.function, (x,), (direction,))
        return value, forward, vjp(covector)[0]

    value, forward, reverse = derivatives(run.arguments()[0], run.direction, covector)
    assert np.all(np.isfinite(here))
    np.testing.assert_allclose(value, here, rtol=1e-6, atol=1e-8)
    scale = float(jnp.linalg.norm(difference)) + 1.0
    np.testing.assert_allclose(forward, difference, atol=1e-4 * scale)
    np.testing.assert_allclose(
        jnp.sum(reverse * run.direction), jnp.sum(covector * difference), atol=1e-4 * scale
    )


def test_products_are_at_full_precision(run):
    found = rounded_products(run.lanes, run.arguments())
    assert found == []


def test_float32_stays_float32(run):
    values = run.lanes(run.arguments(np.float32))
    assert values.dtype == np.float32
    scale = float(jnp.max(jnp.abs(run.values))) + 1.0
    np.testing.assert_allclose(values, run.values, atol=5e-3 * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lowers_for_cpu_cuda_and_tpu(run, dtype):
    exported = jax.export.export(run.lanes, platforms=["cpu", "cuda", "tpu"])(run.arguments(dtype))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def test_the_rows_can_fail():
    """A host callback is what the lowering test is there to find."""

    def with_callback(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    with pytest.raises(ValueError, match="platform"):
        jax.export.export(jax.jit(with_callback), platforms=["cuda"])(jnp.ones(2))
