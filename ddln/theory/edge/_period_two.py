"""Orbits of period two of gradient descent beyond the edge of stability."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function, first_order, product, twice_differentiable
from ddln._results import RESULTS
from ddln._types import Array, Float, Loss
from ddln._validation import require_positive
from ddln.engine.internal import check_model, known
from ddln.losses import loss_gradient
from ddln.parameterizations import AbstractParameterization
from ddln.theory.layers import deep_diagonal, squares_of_others

# The singular values of the equations, relative to the largest, below which a direction is one of a family.
FAMILY = 1e-7


class PeriodTwoOrbit(eqx.Module):
    """Two points a and b with b = a - eta grad F(a) and a = b - eta grad F(b), F(w) = L(h(w)).

    Attributes:
        points: the parameterization with its weights replaced by those of a and b: a leading axis 2.
        theta: the effective parameters there, shape [2, *theta].
        loss: L there, shape [2].
        gradient: grad L(theta) there, shape [2, *theta].
        step_size: eta.
        amplitude: |a - b| / 2; zero up to rounding if a stationary point was found in place of an orbit.
        derivative: D = (1 - eta H(b)) (1 - eta H(a)), that of two steps from a, shape [P, P].
        residual: the largest error of the two equations, over eta.
        result: a `ddln.RESULTS` code: `RESULTS.no_orbit` if the equations were not solved, or by a
            stationary point.
    """

    points: AbstractParameterization
    theta: Float[Array, "2 *theta"]
    loss: Float[Array, "2"]
    gradient: Float[Array, "2 *theta"]
    step_size: Float[Array, ""]
    amplitude: Float[Array, ""]
    derivative: Float[Array, "P P"]
    residual: Float[Array, ""]
    result: RESULTS

    @property
    def multipliers(self) -> Array:
        """The eigenvalues of D, of largest absolute value first: the orbit attracts if all are below 1.

        A multiplier of 1 belongs to a family of orbits, -1 to a doubling of the period, and those of
        the gaps u_j^2 - u_k^2 of a deep diagonal network are the products of `gap_factors` over the two
        points. Computed on the CPU.
        """
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            found = jnp.linalg.eigvals(self.derivative)
            return found[jnp.argsort(-jnp.abs(found))]

    @property
    def gap_factors(self) -> Float[Array, "2 pairs d"]:
        """The factors of the gaps u_j^2 - u_k^2 of a deep diagonal network in the steps from a and b.

        1 - eta^2 c^2 g^2 prod_{l != j,k} u_l^2, exact for steps along the orbit; a descent next to it has
        them in the limit. Pairs j < k in the order (1, 2), (1, 3), ..., (2, 3), ....

        Raises:
            ValueError: if the parameterization is not a `ddln.DeepDiagonal`.
        """
        network = deep_diagonal(self.points)
        step = self.step_size * network.factor * self.gradient
        return 1 - jnp.square(step)[:, None] * squares_of_others(network.layers)


def period_two_orbit(
    parameterization: AbstractParameterization,
    loss: Loss,
    step_size: float | Float[Array, ""],
    *,
    max_steps: int = 50,
) -> PeriodTwoOrbit:
    """The orbit of period two of gradient descent next to a point, by Newton's method.

    With the mean m and half the difference delta of the points, the orbit solves

        grad F(m + delta) + grad F(m - delta) = 0,   eta (grad F(m + delta) - grad F(m - delta)) = 4 delta,

    from m and delta of the given point and the one after a step. A Newton step is the shortest one that
    solves the linear equations, so that from a family of orbits that next to the start is found. Descent
    whose step is slightly too large for a minimum tends to such an orbit: start from where it is. The
    orbit branches off a minimum at `ddln.theory.stable_step_size`, and doubles its period at
    `ddln.theory.period_doubling`. Differentiable once in the step size and the loss's arrays, implicitly, at
    fixed directions of a family. For `jax.jit` and `jax.vmap`, as over step sizes.

    Example:
        >>> run = ddln.descend(network, loss, optax.sgd(1.1), 1000)
        >>> ddln.theory.period_two_orbit(run.final, loss, 1.1).amplitude

    Args:
        parameterization: the weights near one of the points.
        loss: L(theta), twice differentiable.
        step_size: eta, positive.
        max_steps: the most Newton steps.

    Raises:
        ValueError: if the step size is not positive, `max_steps` < 1, the loss has no second
            derivatives, or the orbit is differentiated twice.
    """
    check_orbit(parameterization, loss, step_size, max_steps)
    with twice_differentiable():
        return _orbit(parameterization, loss, step_size, max_steps)


def check_orbit(
    parameterization: AbstractParameterization, loss: Loss, step_size: object, max_steps: int
) -> None:
    """Check the arguments of a search for an orbit.

    Raises:
        ValueError: if one is out of its range.
    """
    check_model(parameterization, loss)
    if known(step_size) is not None:
        require_positive("step_size", step_size)
    if max_steps < 1:
        raise ValueError(f"Argument `max_steps` must be at least 1, but it is {max_steps}.")


@eqx.filter_jit
def _orbit(parameterization, loss, step_size, max_steps: int) -> PeriodTwoOrbit:
    steps = Steps(parameterization)
    eta = jnp.asarray(step_size, steps.flat.dtype)
    start = steps.half_step(loss, eta)
    loss, eta = first_order("period_two_orbit", (steps.with_arrays(loss), eta))

    def equations(inputs, y):
        loss, eta = inputs
        return steps.equations(loss, eta, y)

    unknown = newton(equations, (loss, eta), start, max_steps)
    return steps.orbit(loss, eta, unknown)


class Steps:
    """Gradient descent in the flat weights."""

    def __init__(self, parameterization: AbstractParameterization):
        self.static = eqx.partition(parameterization, eqx.is_inexact_array)[1]
        self.effective, weights = as_function(parameterization)
        self.flat, self.unravel = ravel_pytree(weights)

    def with_arrays(self, loss: Loss) -> Loss:
        """The loss with the arrays of its closure as leaves, for derivatives in them."""
        if isinstance(loss, eqx.Module):
            return loss  # pyright: ignore[reportReturnType]
        theta = jax.eval_shape(lambda w: self.effective(self.unravel(w)), self.flat)
        return eqx.filter_closure_convert(loss, theta)

    def gradient(self, loss: Loss, w: Float[Array, " P"]) -> Float[Array, " P"]:
        """grad F."""
        return jax.grad(lambda w: loss(self.effective(self.unravel(w))))(w)

    def half_step(self, loss: Loss, eta: Array) -> Float[Array, " N"]:
        """The mean of the weights and those after a step, and half of their difference."""
        half = eta * self.gradient(loss, self.flat) / 2
        return jnp.concatenate([self.flat - half, half])

    def equations(self, loss: Loss, eta: Array, unknown: Float[Array, " N"]) -> Array:
        """The residuals of an orbit with this mean and half a difference, shape [2P]."""
        mean, half = jnp.split(unknown, 2)
        ahead, behind = self.gradient(loss, mean + half), self.gradient(loss, mean - half)
        return jnp.concatenate([ahead + behind, ahead - behind - 4 * half / eta])

    def orbit(self, loss: Loss, eta: Array, unknown: Float[Array, " N"]) -> PeriodTwoOrbit:
        """The orbit of this mean and half a difference, with its derivative."""
        eps = float(jnp.finfo(unknown.dtype).eps)
        mean, half = jnp.split(unknown, 2)
        points = jnp.stack([mean + half, mean - half])
        residual = jnp.max(jnp.abs(self.equations(loss, eta, unknown)))
        amplitude = jnp.linalg.norm(half)
        hessians = jax.vmap(jax.jacfwd(lambda w: self.gradient(loss, w)))(points)
        steps = jnp.eye(mean.size, dtype=mean.dtype)[None] - eta * hessians
        thetas = jax.vmap(lambda w: self.effective(self.unravel(w)))(points)
        size = jnp.max(jnp.abs(self.gradient(loss, points[0])))
        found = (residual <= 1e3 * eps * (1 + size)) & (
            amplitude > eps**0.5 * jnp.linalg.norm(mean)
        )
        return PeriodTwoOrbit(
            points=eqx.combine(jax.vmap(self.unravel)(points), self.static),
            theta=thetas,
            loss=jax.vmap(loss)(thetas),
            gradient=jax.vmap(lambda theta: loss_gradient(loss, theta))(thetas),
            step_size=eta,
            amplitude=amplitude,
            derivative=product(steps[1], steps[0]),
            residual=residual,
            result=RESULTS.where(found, RESULTS.successful, RESULTS.no_orbit),  # pyright: ignore
        )


def newton(
    equations: Callable[[Any, Float[Array, " N"]], Float[Array, " M"]],
    inputs: Any,
    start: Float[Array, " N"],
    max_steps: int,
) -> Float[Array, " N"]:
    """A solution y of equations(inputs, y) = 0 next to a start, with its implicit derivative in the inputs.

    Each step, and the derivative, is the shortest solution of the linear equations.
    """
    arrays, rest = eqx.partition(inputs, eqx.is_inexact_array)

    def residual(arrays, y):
        return equations(eqx.combine(arrays, rest), y)

    def shortest(arrays, y, right):
        """The shortest solution of the equations linearized at y."""
        jacobian = jax.jacfwd(lambda y: residual(arrays, y))(y)
        u, singular, v = jnp.linalg.svd(jacobian, full_matrices=False)
        kept = singular > FAMILY * singular[0]
        along = product(u.T, right) / jnp.where(kept, singular, 1)
        return product(jnp.where(kept, along, 0), v)

    # Quadratic convergence: after a step of this length the next one is rounding.
    eps = float(jnp.finfo(start.dtype).eps)

    def going(state):
        y, step, number = state
        return (step > 4 * eps * jnp.linalg.norm(y)) & (number < max_steps)

    @jax.custom_jvp
    def solve(arrays, start):
        def advance(state):
            y, _, number = state
            step = shortest(arrays, y, residual(arrays, y))
            return y - step, jnp.linalg.norm(step), number + 1

        return jax.lax.while_loop(going, advance, (start, jnp.ones((), start.dtype), 0))[0]

    @solve.defjvp
    def _(primals, tangents):
        y = solve(*primals)
        _, moved = jax.jvp(lambda arrays: residual(arrays, y), primals[:1], tangents[:1])
        return y, -shortest(primals[0], y, moved)

    return solve(arrays, start)
