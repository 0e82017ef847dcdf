"""Orbits of period two of gradient descent beyond the edge of stability."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function, product
from ddln._results import RESULTS
from ddln._types import Array, Float, Loss
from ddln._validation import require_positive
from ddln.engine.internal import check_model, known
from ddln.parameterizations import AbstractParameterization
from ddln.theory.edge._hessian import twice_differentiable

# The singular values of the equations, relative to the largest, below which a direction is one of a family.
FAMILY = 1e-7


class PeriodTwoOrbit(eqx.Module):
    """Two points a and b with b = a - eta grad F(a) and a = b - eta grad F(b), F(w) = L(h(w)).

    Attributes:
        points: the parameterization with its weights replaced by those of a and b: a leading axis 2.
        theta: the effective parameters there, shape [2, *theta].
        loss: L there, shape [2].
        amplitude: |a - b| / 2; zero up to rounding if a stationary point was found in place of an orbit.
        derivative: D = (1 - eta H(b)) (1 - eta H(a)), that of two steps from a, shape [P, P].
        residual: the largest error of the two equations, over eta.
        result: a `ddln.RESULTS` code: `RESULTS.no_orbit` if the equations were not solved, or by a
            stationary point.
    """

    points: AbstractParameterization
    theta: Float[Array, "2 *theta"]
    loss: Float[Array, "2"]
    amplitude: Float[Array, ""]
    derivative: Float[Array, "P P"]
    residual: Float[Array, ""]
    result: RESULTS

    @property
    def multipliers(self) -> Array:
        """The eigenvalues of D, of largest absolute value first: the orbit attracts if all are below 1.

        A multiplier of 1 belongs to a family of orbits, -1 to a doubling of the period, and those of
        the gaps u_j^2 - u_k^2 of a deep diagonal network are the products of
        1 - eta^2 c^2 g^2 prod_{l != j,k} u_l^2 over the two points. Computed on the CPU.
        """
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            found = jnp.linalg.eigvals(self.derivative)
            return found[jnp.argsort(-jnp.abs(found))]


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
    orbit branches off a minimum at eta = 2 / sharpness, and doubles its period where a
    multiplier passes -1. For `jax.jit` and `jax.vmap`, as over step sizes.

    Example:
        >>> run = ddln.descend(network, loss, optax.sgd(1.1), 1000)
        >>> ddln.theory.period_two_orbit(run.final, loss, 1.1).amplitude

    Args:
        parameterization: the weights near one of the points.
        loss: L(theta), twice differentiable.
        step_size: eta, positive.
        max_steps: the most Newton steps.

    Raises:
        ValueError: if the step size is not positive, `max_steps` < 1, or the loss has no second
            derivatives.
    """
    check_model(parameterization, loss)
    if known(step_size) is not None:
        require_positive("step_size", step_size)
    if max_steps < 1:
        raise ValueError(f"Argument `max_steps` must be at least 1, but it is {max_steps}.")
    with twice_differentiable():
        return _orbit(parameterization, loss, step_size, max_steps)


@eqx.filter_jit
def _orbit(parameterization, loss, step_size, max_steps: int) -> PeriodTwoOrbit:
    effective, weights = as_function(parameterization)
    flat, unravel = ravel_pytree(weights)
    eta = jnp.asarray(step_size, flat.dtype)
    size = flat.size

    def slope(w):
        return jax.grad(lambda w: loss(effective(unravel(w))))(w)

    def equations(unknown):
        mean, half = jnp.split(unknown, 2)
        ahead, behind = slope(mean + half), slope(mean - half)
        return jnp.concatenate([ahead + behind, ahead - behind - 4 * half / eta])

    def newton(state):
        unknown, _, number = state
        u, singular, v = jnp.linalg.svd(jax.jacfwd(equations)(unknown), full_matrices=False)
        kept = singular > FAMILY * singular[0]
        along = product(u.T, equations(unknown)) / jnp.where(kept, singular, 1)
        step = product(jnp.where(kept, along, 0), v)
        return unknown - step, jnp.linalg.norm(step), number + 1

    # Quadratic convergence: after a step of this length the next one is rounding.
    eps = float(jnp.finfo(flat.dtype).eps)

    def going(state):
        unknown, step, number = state
        return (step > 4 * eps * jnp.linalg.norm(unknown)) & (number < max_steps)

    half = eta * slope(flat) / 2
    start = jnp.concatenate([flat - half, half])
    unknown, _, _ = jax.lax.while_loop(going, newton, (start, jnp.ones((), flat.dtype), 0))
    unknown = jax.lax.stop_gradient(unknown)
    mean, half = jnp.split(unknown, 2)
    points = jnp.stack([mean + half, mean - half])
    residual = jnp.max(jnp.abs(equations(unknown)))
    amplitude = jnp.linalg.norm(half)
    hessians = jax.vmap(jax.jacfwd(slope))(points)
    steps = jnp.eye(size, dtype=flat.dtype)[None] - eta * hessians
    thetas = jax.vmap(lambda w: effective(unravel(w)))(points)
    solved = residual <= 1e3 * eps * (1 + jnp.max(jnp.abs(slope(points[0]))))
    found = solved & (amplitude > eps**0.5 * jnp.linalg.norm(mean))
    _, static = eqx.partition(parameterization, eqx.is_inexact_array)
    return PeriodTwoOrbit(
        points=eqx.combine(jax.vmap(unravel)(points), static),
        theta=thetas,
        loss=jax.vmap(loss)(thetas),
        amplitude=amplitude,
        derivative=product(steps[1], steps[0]),
        residual=residual,
        result=RESULTS.where(found, RESULTS.successful, RESULTS.no_orbit),  # pyright: ignore
    )
