"""The flow map of a parameterization: the weights as a function of the dual coordinate."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import pull_back
from ddln._types import PyTree, Scalar, Theta
from ddln.parameterizations import AbstractParameterization


def split(parameterization: AbstractParameterization) -> tuple[PyTree, PyTree]:
    """The weights, and everything else."""
    return eqx.partition(parameterization, eqx.is_inexact_array)


def _apply_inverse_metric(parameterization: AbstractParameterization, direction: Theta) -> Theta:
    """M^-1 direction, elementwise where M is diagonal."""
    if parameterization.separable:
        return direction / parameterization.metric_diagonal()
    solution = jax.scipy.linalg.solve(
        parameterization.metric(), direction.reshape(-1), assume_a="pos"
    )
    return solution.reshape(direction.shape)


def _integrate(
    field: Callable[[PyTree], PyTree],
    state: PyTree,
    dtype: jnp.dtype,
    adjoint: diffrax.AbstractAdjoint,
) -> PyTree:
    """The state at s = 1, nan if the integration fails."""
    # In float64 about 2e-12, in float32 about 6e-6.
    tolerance = float(jnp.finfo(dtype).eps) ** 0.75
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda s, y, args: field(y)),
        diffrax.Dopri8(),
        jnp.asarray(0, dtype),
        jnp.asarray(1, dtype),
        None,
        state,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance * 1e-3),
        adjoint=adjoint,
        max_steps=1024,
        throw=False,
    )
    reached = solution.result == diffrax.RESULTS.successful
    return jax.tree.map(lambda y: jnp.where(reached, y[-1], jnp.nan), solution.ys)


def _integrate_flow(
    parameterization: AbstractParameterization, xi: Theta, adjoint: diffrax.AbstractAdjoint
) -> tuple[PyTree, Scalar]:
    """W(xi), and Q*(xi) = int_0^1 <xi, theta(s xi)> ds."""
    weights, static = split(parameterization)

    def field(state):
        here = eqx.combine(state[0], static)
        return pull_back(here, xi), jnp.sum(xi * here.effective())

    return _integrate(field, (weights, jnp.zeros((), xi.dtype)), xi.dtype, adjoint)


def _any_moves(weights_dot: PyTree) -> bool:
    return any(leaf is not None for leaf in jax.tree.leaves(weights_dot))


def _flow_shift(
    parameterization: AbstractParameterization, weights_dot: PyTree, xi: Theta
) -> tuple[PyTree, Scalar]:
    """Derivative of W(xi) and Q*(xi) along a change of the initial weights, by integration."""
    _, shift = eqx.filter_jvp(
        lambda p: _integrate_flow(p, xi, diffrax.DirectAdjoint()),
        (parameterization,),
        (weights_dot,),
    )
    return shift


@eqx.filter_custom_jvp
def flow_map(parameterization: AbstractParameterization, xi: Theta) -> tuple[PyTree, Scalar]:
    """The weights W(xi), the end of dw/ds = J(w)^T xi over s in [0, 1], and Q*(xi).

    In xi its derivatives are J(W)^T and theta(xi), because the parameterization commutes; in the
    initial weights they are integrated with the differential equation.
    """
    return _integrate_flow(parameterization, xi, diffrax.ForwardMode())


@flow_map.def_jvp
def _flow_map_jvp(primals, tangents):
    parameterization, xi = primals
    weights_dot, xi_dot = tangents
    end, energy = flow_map(parameterization, xi)
    end_dot = jax.tree.map(jnp.zeros_like, end)
    energy_dot = jnp.zeros_like(energy)
    if xi_dot is not None:
        there = eqx.combine(end, split(parameterization)[1])
        end_dot = pull_back(there, xi_dot)
        energy_dot = jnp.sum(there.effective() * xi_dot)
    if _any_moves(weights_dot):
        shift, energy_shift = _flow_shift(parameterization, weights_dot, xi)
        end_dot = jax.tree.map(jnp.add, end_dot, shift)
        energy_dot = energy_dot + energy_shift
    return (end, energy), (end_dot, energy_dot)


@eqx.filter_custom_jvp
def lift(parameterization: AbstractParameterization, theta: Theta) -> tuple[PyTree, Theta, Scalar]:
    """The weights over theta, xi = grad Q(theta) and Q(theta), along the segment from theta_0.

    The weights over the segment follow dw/ds = J^T M^-1 (theta - theta_0), and grad Q and Q follow
    dxi/ds = M^-1 (theta - theta_0) and dQ/ds = <xi, theta - theta_0>, whose integrand is positive.
    The segment stays inside of the domain, which is convex.
    """
    weights, static = split(parameterization)
    direction = theta - parameterization.effective()

    def field(state):
        w, xi, _ = state
        here = eqx.combine(w, static)
        speed = _apply_inverse_metric(here, direction)
        return pull_back(here, speed), speed, jnp.sum(xi * direction)

    start = (weights, jnp.zeros_like(theta), jnp.zeros((), theta.dtype))
    return _integrate(field, start, theta.dtype, diffrax.ForwardMode())


@lift.def_jvp
def _lift_jvp(primals, tangents):
    parameterization, theta = primals
    weights_dot, theta_dot = tangents
    end, xi, value = lift(parameterization, theta)
    static = split(parameterization)[1]
    there = eqx.combine(end, static)
    # Differentiate W(xi) = end, theta(xi) = theta and Q(theta) = <theta, xi> - Q*(xi), stationary in
    # xi: first in the initial weights at fixed xi, then in xi.
    theta_dot = jnp.zeros_like(theta) if theta_dot is None else theta_dot
    end_dot = jax.tree.map(jnp.zeros_like, end)
    value_dot = jnp.sum(xi * theta_dot)
    if _any_moves(weights_dot):
        end_dot, energy_dot = _flow_shift(parameterization, weights_dot, xi)
        value_dot = value_dot - energy_dot
        _, shift = jax.jvp(lambda w: eqx.combine(w, static).effective(), (end,), (end_dot,))
        theta_dot = theta_dot - shift
    xi_dot = _apply_inverse_metric(there, theta_dot)
    end_dot = jax.tree.map(jnp.add, end_dot, pull_back(there, xi_dot))
    return (end, xi, value), (end_dot, xi_dot, value_dot)
