"""Derivatives of every flow by every adjoint, against a closed form and against differences.

Two layers with orthonormal features have a closed form, coordinate by coordinate. Lanes are vmapped, with
starts so different in size that the numbers of their steps are too.
"""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from two_layers import closed_form

import ddln
from ddln._validation import constant

RNG = np.random.default_rng(0)
X = jnp.asarray(np.linalg.qr(RNG.normal(size=(3, 3)))[0])
WIDE = X[:2]
Y = jnp.asarray(RNG.normal(size=3))
SIZES = np.array([0.05, 1.0, 4.0])[:, None, None]
LAYERS = jnp.asarray(SIZES * RNG.choice([-1.0, 1.0], (3, 2, 3)) * RNG.uniform(0.5, 1.5, (3, 2, 3)))
DIRECTIONS = tuple(jnp.asarray(RNG.normal(size=shape)) for shape in ((2, 3), (3,), ()))
T1 = jnp.asarray(0.7)
TIGHT = {"rtol": 1e-10, "atol": 1e-12, "throw": False}
FORWARD = diffrax.ForwardMode()


def gradient_flow(layers, target, t1, **settings):
    loss = ddln.LeastSquares(X, target)
    return ddln.gradient_flow(
        ddln.DeepDiagonal(layers), loss, t1, dual=False, **TIGHT, **settings
    ).theta[-1]


def saved_flow(layers, target, t1):
    loss = ddln.LeastSquares(X, target)
    flow = ddln.gradient_flow(
        ddln.DeepDiagonal(layers), loss, 1.1 * t1, ts=jnp.stack([0 * t1, t1]), **TIGHT
    )
    # At t = 0 there is the start, and the dual is an integral of what is there.
    return flow.theta[1] + flow.theta[0] - layers[0] * layers[1] + flow.dual[0]


def mirror_flow(layers, target, t1, **settings):
    q, loss = ddln.potential(ddln.DeepDiagonal(layers)), ddln.LeastSquares(X, target)
    return ddln.mirror_flow(q, loss, t1, **TIGHT, **settings).theta[-1]


def sweep(layers, target, t1, **settings):
    starts = jax.vmap(ddln.DeepDiagonal)(layers[None])
    result = ddln.sweep(starts, ddln.LeastSquares(X, target), t1, **TIGHT, **settings)
    return result.theta[0, -1]


def objective(function, **settings):
    weights = jnp.asarray([1.0, -2.0, 0.5])
    return lambda *arguments: jnp.sum(weights * function(*arguments, **settings) ** 2)


def in_lanes(function):
    return jax.jit(jax.vmap(function, (0, None, None)))(LAYERS, Y, T1)


def slope_and_curvature(value):
    """The gradient, and the Hessian times a direction: forward over reverse."""
    slope = jax.grad(value, (0, 1, 2))
    return in_lanes(lambda *arguments: jax.jvp(slope, arguments, DIRECTIONS))


@functools.cache
def exact():
    return slope_and_curvature(objective(functools.partial(closed_form, X)))


def close(found, right, tolerance):
    for a, b in zip(found, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_first_and_second_derivatives_are_those_of_the_closed_form():
    slope, curvature = slope_and_curvature(objective(gradient_flow))
    close(slope, exact()[0], 1e-7)
    close(curvature, exact()[1], 1e-5)


FIRST_ORDER = {
    "full": (gradient_flow, {"coordinates": "full"}),
    "saved": (saved_flow, {}),
    "checkpoints": (gradient_flow, {"adjoint": diffrax.RecursiveCheckpointAdjoint()}),
    "direct": (gradient_flow, {"adjoint": diffrax.DirectAdjoint(), "max_steps": 256}),
    "Tsit5": (gradient_flow, {"solver": diffrax.Tsit5(), "coordinates": "full"}),
    "Kvaerno3": (gradient_flow, {"solver": diffrax.Kvaerno3()}),
    "mirror": (mirror_flow, {}),
}


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_gradients_are_those_of_the_closed_form(name):
    function, settings = FIRST_ORDER[name]
    close(in_lanes(jax.grad(objective(function, **settings), (0, 1, 2))), exact()[0], 1e-6)


@pytest.mark.parametrize("function", [gradient_flow, sweep])
def test_forward_mode_is_the_closed_form(function):
    value = objective(function, adjoint=FORWARD)
    found = in_lanes(lambda *arguments: jax.jvp(value, arguments, DIRECTIONS)[1])
    right = sum(
        np.sum(np.reshape(slope * direction[None], (3, -1)), axis=1)
        for slope, direction in zip(exact()[0], DIRECTIONS, strict=True)
    )
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-6)


def mirror_descent(layers, target, t1):
    q, loss = ddln.potential(ddln.DeepDiagonal(layers)), ddln.LeastSquares(X, target)
    return ddln.mirror_descent(q, loss, t1 / 40, 5, throw=False).theta[-1]


def limit(layers, target, t1):
    loss = ddln.LeastSquares(WIDE, t1 * target[:2])
    return ddln.limit(ddln.DeepDiagonal(layers), loss, throw=False).theta


def vanishing_limit(layers, target, t1):
    loss = ddln.LeastSquares(WIDE, t1 * target[:2])
    path = ddln.vanishing_limit(ddln.DeepDiagonal(layers), loss, max_plateaus=5, throw=False)
    return path.theta[-1] + path.ts[1]


# Other dynamics stand in `test_dynamics_grid.py`.
OTHERS = [mirror_descent, limit, vanishing_limit]


@pytest.mark.parametrize("function", OTHERS)
def test_gradients_are_differences(function):
    value = objective(function)
    # The gradient is that of the first. The others use its program: another would have to be compiled.
    steps = jnp.asarray([0.0, 1e-3, -1e-3, 5e-4, -5e-4])

    def gradient_and_difference(*arguments):
        # Of the size of the start, so that a small one keeps its signs.
        size = jnp.max(jnp.abs(arguments[0]))
        directions = (DIRECTIONS[0] * size, *DIRECTIONS[1:])

        def moved(step):
            there = (a + step * d for a, d in zip(arguments, directions, strict=True))
            return jax.value_and_grad(value, (0, 1, 2))(*there)

        (_, far, far_back, near, near_back), slopes = jax.vmap(moved)(steps)
        slope = jax.tree.map(lambda leaf: leaf[0], slopes)
        rates = (far - far_back) / 2e-3, (near - near_back) / 1e-3
        inner = sum(jnp.vdot(a, b) for a, b in zip(slope, directions, strict=True))
        return inner, (4 * rates[1] - rates[0]) / 3

    found, difference = in_lanes(gradient_and_difference)
    np.testing.assert_allclose(found, difference, rtol=1e-6, atol=1e-6)


def test_many_steps_are_taken_back_from_every_second_state_or_fewer(monkeypatch):
    monkeypatch.setattr("ddln.engine._checkpoints.SLOTS", 8)
    # Another bound, so that the program is a new one.
    value = objective(gradient_flow, max_steps=1000)
    close(in_lanes(jax.grad(value, (0, 1, 2))), exact()[0], 1e-7)


def tied(size, **settings):
    """A start whose layers have the same size at the first coordinate if `size` is one."""
    layers = jnp.asarray([[1.0, 0.5, -0.7], [-1.0, 1.2, 0.3]]).at[0, 0].multiply(size)
    return objective(gradient_flow, **settings)(layers, Y, T1)


def test_where_layers_tie_derivatives_are_two_sided():
    step = 1e-4
    sizes = 1 + step * jnp.arange(-1.0, 2.0)
    (behind, here, ahead), (_, slope, _) = jax.jit(jax.vmap(jax.value_and_grad(tied)))(sizes)
    one_sided = (ahead - here) / step, (here - behind) / step
    np.testing.assert_allclose(one_sided, slope, rtol=1e-3)
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)


def test_constants_are_not_differentiated():
    # The suite checks annotations, which refuse the tracer before that.
    with pytest.raises(ValueError, match="`factor` must be a constant"):
        jax.grad(lambda factor: constant("factor", factor))(1.0)


WRONG = {
    "forward through None": (jax.jvp, {}, "`adjoint` must be `diffrax.ForwardMode"),
    "reverse through forward": (jax.vjp, {"adjoint": FORWARD}, "`adjoint` must be None"),
    "reverse through RKC": (jax.vjp, {"solver": ddln.RKC()}, r"must be `ddln.RKC\(reverse=True"),
    "forward through RKC": (
        jax.jvp,
        {"solver": ddln.RKC(reverse=True), "adjoint": FORWARD},
        r"must be `ddln.RKC\(reverse=False",
    ),
    "backsolve": (jax.vjp, {"adjoint": diffrax.BacksolveAdjoint()}, "`adjoint` must be None"),
    "implicit": (jax.vjp, {"adjoint": diffrax.ImplicitAdjoint()}, "`adjoint` must be None"),
}


@pytest.mark.parametrize(
    ("function", "name"),
    [(gradient_flow, name) for name in WRONG]
    + [(sweep, "forward through None"), (sweep, "reverse through forward")],
)
def test_the_wrong_mode_says_which_to_pass(function, name):
    mode, settings, message = WRONG[name]

    def value(t1):
        return function(LAYERS[1], Y, t1, max_steps=64, **settings)[0]

    def derivative(t1):
        if mode is jax.jvp:
            return jax.jvp(value, (t1,), (1.0,))[1]
        return jax.vjp(value, t1)[1](1.0)[0]

    with pytest.raises(ValueError, match=message):
        jax.jit(derivative).lower(0.7)
