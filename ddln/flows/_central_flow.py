"""The central flow: the time-averaged path of gradient descent at the edge of stability."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import first_order, product, twice_differentiable
from ddln._results import RESULTS
from ddln._types import Array, Float, Loss, PyTree
from ddln._validation import require_positive
from ddln.engine import Solve, integrate
from ddln.engine.internal import check_model, check_start, known
from ddln.flows._complementarity import complementary, symmetric_basis
from ddln.flows._gradient_flow import AbstractFullDynamics
from ddln.flows._trajectory import Trajectory, weight_trajectory
from ddln.flows.states import FullSpace
from ddln.parameterizations import AbstractParameterization

# A further mode this far beyond the edge, relative to it, is one too many.
BEYOND = 1e-3


def central_flow(
    parameterization: AbstractParameterization,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    step_size: float | Float[Array, ""],
    modes: int = 1,
    ts: Any = None,
    solver: diffrax.AbstractSolver | None = None,
    rtol: float | Float[Array, ""] = 1e-6,
    atol: float | Float[Array, ""] = 1e-9,
    max_steps: int = 16384,
    adjoint: diffrax.AbstractAdjoint | None = None,
    event: Callable | None = None,
    dense: bool = False,
    throw: bool = True,
) -> Trajectory:
    """Integrates the central flow of gradient descent with a step size eta, from time 0 to t1.

    Descent whose sharpness has reached 2 / eta oscillates along the critical eigenvectors u of the Hessian
    H(w). With Sigma the covariance of the oscillation, its average moves as

        w' = -grad_w L - (1/2) grad_w <Sigma, H(w)>,   Sigma >= 0 on the span of the u_a,

    and Sigma is what keeps the critical eigenvalues at or below 2 / eta. Here Sigma is the solution of

        0 <= Sigma,   d/dt H_U <= (2 / eta - H_U) / eta,   complementary,   H_U = (u_a^T H u_b)_ab,

    with the `modes` largest eigenvectors: inactive below the edge, where the flow is gradient flow, and from
    a start beyond it the sharpness falls to the edge at the rate 1 / eta. For one mode at the edge it is
    Sigma = max(0, -2 <grad S, grad L> / |grad S|^2) u u^T, S the sharpness. Step k of the descent is at
    the time k eta.

    The theory is a heuristic: see the page "Edge of stability" for a case in which it fails. A
    right-hand side takes a dense Hessian and its eigenvectors, O(P^3). Second derivatives are an error.

    Example:
        >>> flow = ddln.central_flow(network, loss, 40.0, step_size=0.1, ts=jnp.linspace(0.0, 40.0, 100))
        >>> flow.record.variance

    Args:
        parameterization: the start; its inexact leaves are the weights w.
        loss: L(theta), three times differentiable (four times for derivatives of the flow).
        t1: the end of the integration, positive and finite.
        step_size: eta, positive; in a sweep `ddln.PerLane`.
        modes: the largest number of critical eigenvectors, 1 to P.
        ts: the times to save at, as in `ddln.gradient_flow`.
        solver: any explicit diffrax solver; None takes Tsit5.
        rtol: the relative tolerance.
        atol: the absolute tolerance, multiplied by min(1, largest |w| at the start).
        max_steps: the most steps, accepted or not: about t1 / eta are made.
        adjoint: as in `ddln.gradient_flow`.
        event: as in `ddln.gradient_flow`.
        dense: whether to keep dense output for `Trajectory.evaluate`.
        throw: as in `ddln.gradient_flow`.

    Returns:
        The trajectory, without a dual; `record` is a `CentralRecord`. `result` is `RESULTS.too_many_modes` if
        a further eigenvalue went beyond the edge, so that more `modes` are needed, or a code as of
        `ddln.gradient_flow`.

    Raises:
        ValueError: for arguments that do not fit, before the integration; for a loss without second
            derivatives.
        RuntimeError: if `throw=True` and the solve fails.

    Source: [@cohen2024]; the page derives the complementarity problem with its rate.
    """
    dynamics = CentralDynamics(step_size, modes)
    solve = Solve(t1, ts, rtol, atol, solver, adjoint, event, max_steps, dense).checked()
    if throw:
        check_start(parameterization)
    return integrate(dynamics, parameterization, loss, solve, throw=throw)


class CentralRecord(eqx.Module):
    """The oscillation around a central flow, at the saved times.

    Attributes:
        eigenvalues: the `modes` largest eigenvalues of the Hessian, descending, shape [T, modes].
        covariance: Sigma in their eigenvectors, shape [T, modes, modes].
        variance: its trace, the mean of |w_k - w|^2 for the descent w_k, shape [T].
        averaged_loss: L + <Sigma, H> / 2, the prediction of the mean loss of the descent, shape [T].
        step_size: eta.
    """

    eigenvalues: Float[Array, "T k"]
    covariance: Float[Array, "T k k"]
    variance: Float[Array, " T"]
    averaged_loss: Float[Array, " T"]
    step_size: Float[Array, ""]


class CentralDynamics(AbstractFullDynamics):
    """The central flow of gradient descent with step size eta, as `ddln.central_flow`.

    Args:
        step_size: eta, positive.
        modes: the largest number of critical eigenvectors.

    Raises:
        ValueError: if an argument is out of its range.
    """

    step_size: Any
    modes: int = eqx.field(static=True)

    def __init__(self, step_size: Any, modes: int = 1):
        if (value := known(step_size)) is not None:
            require_positive("step_size", value)
        if modes < 1:
            raise ValueError(f"Argument `modes` must be at least 1, but it is {modes}.")
        self.step_size = step_size
        self.modes = modes

    def states(self, start, loss):
        check_model(start, loss)
        space = FullSpace(start)
        size = sum(leaf.size for leaf in jax.tree.leaves(space.start()))
        if self.modes > size:
            raise ValueError(
                f"Argument `modes` must be at most {size}, the number of weights, but it is {self.modes}."
            )
        return space

    def initial_state(self, states, loss):
        weights = states.start()
        return weights, jnp.zeros((), jnp.result_type(*jax.tree.leaves(weights)))

    def field(self, states, loss):
        return _Field(states, loss, self.step_size, self.modes)

    def default_solver(self, states, loss, *, reverse):
        return diffrax.Tsit5()

    def trajectory(self, states, loss, saved):
        rows, excess = saved.rows
        modes = jax.vmap(self.field(states, loss).modes_at)(rows)
        losses = jax.vmap(lambda row: loss(states.effective(row)))(rows)
        kept = jnp.sum(jnp.diagonal(modes.covariance, axis1=1, axis2=2) * modes.eigenvalues, axis=1)
        record = CentralRecord(
            eigenvalues=saved.blank(modes.eigenvalues),
            covariance=saved.blank(modes.covariance),
            variance=saved.blank(jnp.trace(modes.covariance, axis1=1, axis2=2)),
            averaged_loss=saved.blank(losses + kept / 2),
            step_size=jnp.asarray(self.step_size, losses.dtype),
        )
        trajectory = weight_trajectory(states, loss, saved, rows, None, record)
        # A mode that is not held back makes the solver's steps short: the cause before the effect.
        many = jnp.max(excess) > 0
        result = RESULTS.where(many, RESULTS.too_many_modes, saved.result)  # pyright: ignore
        return eqx.tree_at(lambda one: one.result, trajectory, result)


class _Modes(NamedTuple):
    """The largest eigenvalues at a point, the covariance, and the velocity of the weights."""

    eigenvalues: Array
    covariance: Array
    velocity: PyTree[Array]
    excess: Array


class _Field(eqx.Module):
    """The vector field of the state (weights, integral of the excess of the first mode left out)."""

    states: FullSpace
    loss: Loss
    step_size: Any
    count: int = eqx.field(static=True)

    def __call__(self, t, y, args):
        modes = self.modes_at(y[0])
        return modes.velocity, modes.excess

    def modes_at(self, weights: PyTree[Array]) -> _Modes:
        inputs = (weights, self.states, self.loss, self.step_size)
        weights, states, loss, step_size = first_order("central_flow", inputs)
        flat, unravel = ravel_pytree(weights)
        k = self.count

        def value(w):
            return loss(states.effective(unravel(w)))

        gradient = jax.grad(value)(flat)
        with twice_differentiable():
            hessian = jax.hessian(value)(flat)
        eigenvalues, vectors = _largest(hessian, k)
        further = eigenvalues[k] if eigenvalues.size > k else -jnp.inf
        eigenvalues, vectors = eigenvalues[:k], vectors[:k]
        basis = jnp.asarray(symmetric_basis(k), flat.dtype)

        def inner(w):
            # The entries of H_U in the basis, for fixed vectors.
            images = jax.vmap(lambda u: jax.jvp(jax.grad(value), (w,), (u,))[1])(vectors)
            return product(basis.reshape(-1, k * k), product(images, vectors.T).reshape(-1))

        normals = jax.jacrev(inner)(flat)
        edge = 2 / step_size
        distance = product(basis.reshape(-1, k * k), jnp.diag(eigenvalues - edge).reshape(-1))
        force = distance / step_size - product(normals, gradient)
        sigma = complementary(product(normals, normals.T) / 2, force, k)
        velocity = -gradient - product(sigma, normals) / 2
        excess = jnp.maximum(further / edge - (1 + BEYOND), 0)
        covariance = product(sigma, basis.reshape(-1, k * k)).reshape(k, k)
        return _Modes(eigenvalues, covariance, unravel(velocity), excess)


def _largest(
    hessian: Float[Array, "P P"], k: int
) -> tuple[Float[Array, " K"], Float[Array, "K P"]]:
    """The k + 1 largest eigenvalues, descending, or all, and their vectors, with derivatives of first order.

    Vectors of equal eigenvalues have no derivative towards each other: what depends on their span alone
    needs none.
    """
    fixed = jax.lax.stop_gradient(hessian)
    values, vectors = jnp.linalg.eigh((fixed + fixed.T) / 2)
    values, vectors = values[::-1], vectors.T[::-1]
    most = min(k + 1, len(values))
    moved = product(product(vectors[:most], hessian - fixed), vectors.T)
    gaps = values[:most, None] - values[None, :]
    rounding = float(jnp.finfo(values.dtype).eps) ** 0.75 * jnp.max(jnp.abs(values))
    apart = jnp.abs(gaps) > rounding
    turned = jnp.where(apart, moved / jnp.where(apart, gaps, 1), 0)
    return values[:most] + jnp.diagonal(moved), vectors[:most] + product(turned, vectors)
