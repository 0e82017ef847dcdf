"""Rodas5P: order, stiff accuracy, and every way diffrax can call a solver."""

import dataclasses
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

from ddln.solvers import AbstractRosenbrock, Rodas5P, RosenbrockTableau

TABLEAU = Rodas5P.tableau
TIGHT = diffrax.PIDController(rtol=1e-6, atol=1e-9)


def method(**changes):
    """Rodas5P with some coefficients replaced."""

    class Changed(AbstractRosenbrock):
        tableau: ClassVar[RosenbrockTableau] = dataclasses.replace(TABLEAU, **changes)

    return Changed()


def nonautonomous(t, y, args):
    """Nonlinear, stiffness of order one, exact solution known."""
    a, b = y
    return -2 * t * a**2, b * jnp.cos(t) + a * b * (b - jnp.exp(jnp.sin(t)))


def exact(t):
    return 1 / (1 + t**2), np.exp(np.sin(t))


STEPS = 2.0 / (32 * 2.0 ** jnp.arange(4.0))
START = (jnp.array(1.0), jnp.array(1.0))


def solve(field, solver, t0, t1, y0, **options) -> Any:
    return diffrax.diffeqsolve(diffrax.ODETerm(field), solver, t0, t1, y0=y0, **options)


def slope(errors):
    """Minus the slope of log2(error) over successive halvings of the step."""
    levels = np.arange(len(errors))
    return -np.polyfit(levels, np.log2(errors), 1)[0]


def fixed_step_order(solver):
    """The observed order at t = 2; all step sizes are lanes of one program."""

    term = diffrax.ODETerm(nonautonomous)

    def end(step):
        # Without diffrax's loop, which takes longer to compile than the method.
        def stepped(i, y):
            return solver.step(term, i * step, (i + 1) * step, y, None, None, False)[0]

        return jnp.stack(jax.lax.fori_loop(0, jnp.round(2.0 / step).astype(int), stepped, START))

    ends = jax.jit(jax.vmap(end))(STEPS)
    return slope(np.linalg.norm(ends - np.stack(exact(2.0))[None, :], axis=1))


def test_order_five():
    assert fixed_step_order(Rodas5P()) == pytest.approx(5.0, abs=0.15)


def test_embedded_order_four():
    embedded = tuple(m - e for m, e in zip(TABLEAU.weights, TABLEAU.error, strict=True))
    assert fixed_step_order(method(weights=embedded)) == pytest.approx(4.0, abs=0.15)


def nudge(row, index=0):
    return tuple(x + 1e-3 * (i == index) for i, x in enumerate(row))


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": nudge(TABLEAU.nodes, 2)},
        {"time": nudge(TABLEAU.time)},
        {"stages": (*TABLEAU.stages[:4], nudge(TABLEAU.stages[4]), *TABLEAU.stages[5:])},
        {
            "couplings": (
                *TABLEAU.couplings[:3],
                nudge(TABLEAU.couplings[3]),
                *TABLEAU.couplings[4:],
            )
        },
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_wrong_coefficient_is_noticed(changes):
    assert fixed_step_order(method(**changes)) < 4.5


def test_dense_output_order_four():
    inside = jnp.linspace(0.05, 1.95, 77)

    def worst(solver):
        """The largest error between the steps, for every step size a lane."""

        def errors(step):
            solution = solve(
                nonautonomous,
                solver,
                0.0,
                2.0,
                START,
                dt0=step,
                max_steps=300,
                saveat=diffrax.SaveAt(ts=inside),
            )
            expected = 1 / (1 + inside**2), jnp.exp(jnp.sin(inside))
            return jax.tree.map(lambda y, e: jnp.max(jnp.abs(y - e)), solution.ys, expected)

        return np.max(jax.jit(jax.vmap(errors))(STEPS), axis=0)

    wrong = method(dense=(nudge(TABLEAU.dense[0], 2), *TABLEAU.dense[1:]))
    assert slope(worst(Rodas5P())) > 3.85
    assert slope(worst(wrong)) < 3.5


def test_dense_output_meets_both_ends_of_the_step():
    step = Rodas5P().step
    y0 = (jnp.array(1.0), jnp.array(1.0))
    y1, _, dense, _, _ = step(diffrax.ODETerm(nonautonomous), 0.0, 0.5, y0, None, None, False)
    interpolation = Rodas5P.interpolation_cls(t0=0.0, t1=0.5, **dense)
    assert interpolation.evaluate(0.0) == y0
    np.testing.assert_allclose(interpolation.evaluate(0.5), y1, rtol=1e-14)
    np.testing.assert_allclose(interpolation.evaluate(0.0, 0.5)[0], y1[0] - y0[0], rtol=1e-14)


def test_van_der_pol():
    def field(t, y, args):
        return jnp.stack([y[1], 1e3 * (1 - y[0] ** 2) * y[1] - y[0]])

    # 800 is just before the first jump, 1000 after it.
    times = np.array([100.0, 800.0, 1000.0, 1500.0])
    reference = solve_ivp(
        lambda t, y: np.array([y[1], 1e3 * (1 - y[0] ** 2) * y[1] - y[0]]),
        (0, 1500),
        [2.0, 0.0],
        "Radau",
        times,
        rtol=1e-12,
        atol=1e-12,
        jac=lambda t, y: np.array([[0, 1], [-2e3 * y[0] * y[1] - 1, 1e3 * (1 - y[0] ** 2)]]),
    )
    solution = solve(
        field,
        Rodas5P(),
        0.0,
        1500.0,
        jnp.array([2.0, 0.0]),
        dt0=None,
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
        saveat=diffrax.SaveAt(ts=jnp.asarray(times)),
    )
    np.testing.assert_allclose(solution.ys, reference.y.T, rtol=2e-5)
    # An explicit method needs about a million.
    assert solution.stats["num_steps"] < 2000


@pytest.mark.parametrize("stiffness", [1e2, 1e4, 1e6])
def test_prothero_robinson(stiffness):
    def field(t, y, args):
        return -stiffness * (y - jnp.sin(t)) + jnp.cos(t)

    solution = solve(
        field,
        Rodas5P(),
        0.0,
        10.0,
        jnp.array(0.0),
        dt0=None,
        stepsize_controller=TIGHT,
        saveat=diffrax.SaveAt(steps=True),
        max_steps=200,
    )
    assert solution.result == diffrax.RESULTS.successful
    reached = np.isfinite(solution.ts)
    np.testing.assert_allclose(solution.ys[reached], np.sin(solution.ts[reached]), atol=3e-6)


def test_stiff_decay_is_damped_in_one_step():
    """L-stability: |R(z)| at z = -1e8."""
    solution = solve(lambda t, y, args: -1e8 * y, Rodas5P(), 0.0, 1.0, jnp.array(1.0), dt0=1.0)
    assert abs(solution.ys[-1]) < 1e-6


def test_backward_time():
    forward = solve(nonautonomous, Rodas5P(), 0.0, 2.0, START, dt0=None, stepsize_controller=TIGHT)
    end = tuple(leaf[-1] for leaf in forward.ys)
    backward = solve(nonautonomous, Rodas5P(), 2.0, 0.0, end, dt0=None, stepsize_controller=TIGHT)
    np.testing.assert_allclose([leaf[-1] for leaf in backward.ys], [1.0, 1.0], atol=1e-5)
    fixed = solve(nonautonomous, Rodas5P(), 2.0, 0.0, exact(2.0), dt0=-0.02)
    np.testing.assert_allclose([leaf[-1] for leaf in fixed.ys], [1.0, 1.0], atol=1e-8)


def test_state_of_any_structure():
    """A pytree of arrays of several shapes gives what its flattening gives."""
    matrix = jax.random.normal(jax.random.key(0), (7, 7)) - 3 * jnp.eye(7)
    y0 = {"a": jnp.ones((2, 3)), "b": (jnp.array(0.5),)}
    flat0, unravel = ravel_pytree(y0)

    def flat_field(t, y, args):
        return matrix @ jnp.tanh(y) + jnp.sin(t)

    def field(t, y, args):
        return unravel(flat_field(t, ravel_pytree(y)[0], args))

    options = dict(dt0=None, stepsize_controller=TIGHT)
    flat = solve(flat_field, Rodas5P(), 0.0, 3.0, flat0, **options)
    tree = solve(field, Rodas5P(), 0.0, 3.0, y0, **options)
    assert int(tree.stats["num_steps"]) == int(flat.stats["num_steps"])
    rows, _ = ravel_pytree(jax.tree.map(lambda leaf: leaf[-1], tree.ys))
    np.testing.assert_allclose(rows, flat.ys[-1], rtol=1e-12)
    reference = solve_ivp(
        lambda t, y: np.asarray(matrix) @ np.tanh(y) + np.sin(t),
        (0, 3),
        flat0,
        "DOP853",
        rtol=1e-11,
        atol=1e-12,
    )
    np.testing.assert_allclose(rows, reference.y[:, -1], atol=3e-6)


def test_float32():
    y0 = (jnp.array(1.0, jnp.float32), jnp.array(1.0, jnp.float32))
    zero = jnp.array(0.0, jnp.float32)
    solution = solve(
        nonautonomous,
        Rodas5P(),
        zero,
        zero + 2,
        y0,
        dt0=None,
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-5),
        saveat=diffrax.SaveAt(t1=True, dense=True),
    )
    assert [leaf.dtype for leaf in solution.ys] == [jnp.float32, jnp.float32]
    np.testing.assert_allclose([leaf[-1] for leaf in solution.ys], exact(2.0), rtol=1e-3)
    middle = solution.evaluate(zero + 1)
    assert middle[0].dtype == jnp.float32
    np.testing.assert_allclose(middle, exact(1.0), rtol=1e-3)


def test_float32_time_with_float64_state():
    solution = solve(
        lambda t, y, args: -y,
        Rodas5P(),
        jnp.array(0.0, jnp.float32),
        jnp.array(1.0, jnp.float32),
        jnp.ones(()),
        dt0=jnp.array(0.125, jnp.float32),
        saveat=diffrax.SaveAt(t1=True, dense=True),
        max_steps=16,
    )
    assert solution.ys.dtype == jnp.float64
    np.testing.assert_allclose(solution.ys[-1], np.exp(-1), atol=1e-8)


def test_event_is_located_on_the_dense_output():
    import optimistix as optx

    def reached(t, y, args, **kwargs):
        return y[0] - 0.5

    solution = solve(
        nonautonomous,
        Rodas5P(),
        0.0,
        2.0,
        START,
        dt0=None,
        stepsize_controller=TIGHT,
        event=diffrax.Event(reached, optx.Newton(1e-10, 1e-10)),
    )
    # 1 / (1 + t^2) = 1 / 2 at t = 1.
    assert solution.result == diffrax.RESULTS.event_occurred
    np.testing.assert_allclose(solution.ts[-1], 1.0, atol=1e-6)


@pytest.mark.parametrize(
    "adjoint",
    [diffrax.RecursiveCheckpointAdjoint(), diffrax.DirectAdjoint(), diffrax.ForwardMode()],
    ids=lambda adjoint: type(adjoint).__name__,
)
def test_derivatives_of_a_stiff_solve(adjoint):
    """Lanes that end early take steps of length zero; their derivatives stay finite and right."""
    ends = jnp.array([0.0, 0.1, 0.55, 3.0])

    def field(t, y, rate):
        return jnp.stack([-1e3 * rate * (y[0] - jnp.cos(y[1])), y[0] * jnp.sin(rate * t)])

    def end(rate, t1):
        solution = solve(
            field,
            Rodas5P(),
            0.0,
            t1,
            jnp.array([0.5, 0.2]),
            dt0=0.1,
            args=rate,
            adjoint=adjoint,
            max_steps=32,
        )
        return jnp.sum(solution.ys[-1] ** 2)

    def both(rate, t1):
        if isinstance(adjoint, diffrax.ForwardMode):
            return jax.jvp(lambda rate: end(rate, t1), (rate,), (1.0,))
        return jax.value_and_grad(end)(rate, t1)

    rates = 1.3 + jnp.array([0.0, 1e-4, -1e-4])
    lanes = jax.vmap(jax.vmap(both, in_axes=(None, 0)), in_axes=(0, None))
    (_, above, below), (found, _, _) = jax.jit(lanes)(rates, ends)
    np.testing.assert_allclose(found, (above - below) / 2e-4, rtol=1e-6, atol=1e-8)


def test_an_unsolvable_step_is_a_result_code():
    """A long step meets a point where the field is not defined."""

    def field(t, y, args):
        return -10 * jnp.sqrt(y)

    options = dict(dt0=1.0, max_steps=64)
    fixed = solve(field, Rodas5P(), 0.0, 0.19, jnp.array(1.0), throw=False, **options)
    assert fixed.result == diffrax.RESULTS.singular
    adaptive = solve(
        field, Rodas5P(), 0.0, 0.19, jnp.array(1.0), stepsize_controller=TIGHT, **options
    )
    assert adaptive.stats["num_rejected_steps"] >= 1
    np.testing.assert_allclose(adaptive.ys[-1], (1 - 5 * 0.19) ** 2, atol=1e-6)


def test_only_an_ode_term_will_do():
    term = diffrax.ControlTerm(lambda t, y, args: y, lambda t0, t1: t1 - t0)
    with pytest.raises(ValueError, match="not compatible"):
        diffrax.diffeqsolve(term, Rodas5P(), 0.0, 1.0, 0.1, jnp.array(1.0))
