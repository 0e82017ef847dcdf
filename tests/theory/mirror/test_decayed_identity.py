"""The mirror flow of a moving potential (`_decayed_identity`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from theory_cases import quick_jit

import ddln
from ddln import theory

RNG = np.random.default_rng(2)
X, Y = RNG.normal(size=(4, 5)), RNG.normal(size=4)
LOSS = ddln.LeastSquares(X, Y)
FACTOR = -0.8
LAYERS = jnp.asarray(RNG.uniform(0.3, 1.2, (3, 5)) * RNG.choice([-1, 1], (3, 5)))
TS = jnp.linspace(0.0, 2.0, 9)
JUMPS = jnp.asarray([0.6, 1.3])
VALUES = jnp.asarray([[0.3, 0.3, 0.3], [0.5, 0.0, 0.2]])
TIGHT = {"rtol": 1e-9, "atol": 1e-12, "throw": False}


def checked(depth, decay, *, wrong=None, **settings):
    start = ddln.DeepDiagonal(LAYERS[:depth], FACTOR)
    flow = ddln.gradient_flow(start, LOSS, 2.0, ts=TS, weight_decay=decay, **TIGHT, **settings)
    other = decay if wrong is None else wrong
    return [theory.decayed_mirror_identity(flow, LOSS, one) for one in (decay, other)]


def dual_by_scipy(decay, depth=3):
    """xi' = (L - 2) lambda xi - grad L along the layers, at the saved times."""

    def velocity(t, state):
        layers, xi = state[:-5].reshape(depth, 5), state[-5:]
        g = X.T @ (X @ (FACTOR * layers.prod(0)) - Y)
        others = FACTOR * np.stack([np.delete(layers, j, 0).prod(0) for j in range(depth)])
        w = -g * others - decay(t) * layers
        return np.concatenate([w.ravel(), (depth - 2) * decay(t) * xi - g])

    first = np.concatenate([np.asarray(LAYERS[:depth]).ravel(), np.zeros(5)])
    return solve_ivp(velocity, (0, 2), first, "DOP853", TS, rtol=1e-11, atol=1e-13).y[-5:].T


def test_three_layers_with_constant_and_jumping_decay():
    """The dual of the flow is not that of the potential: it takes a quadrature of dense output."""

    def of_values(values):
        decay, wrong = ddln.PiecewiseConstant(JUMPS, values), 1.02 * values
        wrong = ddln.PiecewiseConstant(JUMPS, wrong)
        return checked(3, decay, wrong=wrong, dense=True)

    right, wrong = quick_jit(jax.vmap(of_values))(VALUES)
    assert right.status.tolist() == ["holds"] * 2
    assert wrong.status.tolist() == ["violated"] * 2
    np.testing.assert_allclose(right.lhs, right.rhs, rtol=0, atol=1e-7)
    # Decided, not by a large tolerance.
    assert np.max(right.tolerance) < 1e-3
    np.testing.assert_allclose(right.rhs[0], dual_by_scipy(lambda t: 0.3), rtol=0, atol=1e-7)


def test_two_layers_with_a_function_of_time():
    def decay(t):
        return 0.2 * (1 + jnp.cos(2 * t))

    right, wrong = quick_jit(lambda: checked(2, decay, wrong=0.2))()
    assert right.status == "holds"
    assert wrong.status == "violated"
    expected = dual_by_scipy(lambda t: 0.2 * (1 + np.cos(2 * t)), depth=2)
    np.testing.assert_allclose(right.lhs, expected, rtol=0, atol=1e-7)


def test_bad_flows():
    start = ddln.DeepDiagonal(LAYERS, FACTOR)
    flow = jax.eval_shape(
        lambda: ddln.gradient_flow(start, LOSS, 2.0, weight_decay=0.1, throw=False)
    )
    with pytest.raises(ValueError, match="Pass `dense=True`"):
        jax.eval_shape(lambda f: theory.decayed_mirror_identity(f, LOSS, 0.1).lhs, flow)
    plain = ddln.FromFunction(lambda w: jnp.sin(w), jnp.ones(5))
    flow = jax.eval_shape(lambda: ddln.gradient_flow(plain, LOSS, 2.0, throw=False))
    with pytest.raises(ValueError, match="with a degree of homogeneity"):
        jax.eval_shape(lambda f: theory.decayed_mirror_identity(f, LOSS, 0.1).lhs, flow)
