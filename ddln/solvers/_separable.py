"""Vector fields of separable flows in reduced coordinates."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ddln._types import Array, Float, PyTree
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractReducedCoordinates
from ddln.solvers._diagonal_plus_low_rank import DiagonalPlusLowRank
from ddln.solvers._structure import AbstractStructuredField, Time

# v: one array, or a tuple of them.
Blocks = PyTree[Float[Array, " d"]]


class SeparableField(AbstractStructuredField):
    """v' = -p(v) grad L(theta(v)), coordinate by coordinate.

    The Jacobian is diag(-p' g) - diag(p) X^T diag(c) X diag(dtheta/dv), with g = grad L and
    X^T diag(c) X the Hessian of the loss, which must be convex. v may be a tuple of arrays, each with a block
    of J.

    Args:
        coordinates: theta(v) and p(v) with their derivatives, elementwise.
        loss: a loss of linear predictions.
    """

    coordinates: AbstractReducedCoordinates
    loss: AbstractPredictionLoss
    autonomous: ClassVar[bool] = True

    def __call__(self, t: Time, y: Blocks, args: Any) -> Blocks:
        theta, speeds = self.coordinates.effective_and_speed(y)
        gradient = self.loss.gradient(theta)
        return jax.tree.map(lambda speed: -speed * gradient, speeds)

    def jacobian(self, t: Time, y: Blocks, args: Any) -> DiagonalPlusLowRank:
        return self.with_jacobian(t, y, args)[1]

    def with_jacobian(self, t: Time, y: Blocks, args: Any) -> tuple[Blocks, DiagonalPlusLowRank]:
        velocity, _, jacobian = _linearized(self.coordinates, self.loss, y)
        return velocity, jacobian


def _linearized(
    coordinates: AbstractReducedCoordinates, loss: AbstractPredictionLoss, v: Blocks
) -> tuple[Blocks, Float[Array, " d"], DiagonalPlusLowRank]:
    """The velocity -p grad L, grad L, and the Jacobian of the velocity."""
    theta, speeds, effective_slopes, speed_slopes = coordinates.with_slopes(v)
    gradient = loss.gradient(theta)
    jacobian = DiagonalPlusLowRank(
        diagonal=jax.tree.map(lambda slope: -slope * gradient, speed_slopes),
        left=jax.tree.map(jnp.negative, speeds),
        right=effective_slopes,
        design=loss.design,
        weight=loss.curvature(theta),
    )
    return jax.tree.map(lambda speed: -speed * gradient, speeds), gradient, jacobian


class SeparableDualField(AbstractStructuredField):
    """The flow of `SeparableField` with its dual: y = (v, xi), xi' = -grad L(theta(v)).

    The dual costs no further product with the design. xi = None omits it.

    Args:
        coordinates: theta(v) and p(v) with their derivatives, elementwise.
        loss: a loss of linear predictions, convex.
    """

    coordinates: AbstractReducedCoordinates
    loss: AbstractPredictionLoss
    autonomous: ClassVar[bool] = True

    def __call__(self, t: Time, y: tuple[Blocks, Float[Array, " d"] | None], args: Any):
        v, dual = y
        theta, speeds = self.coordinates.effective_and_speed(v)
        gradient = self.loss.gradient(theta)
        velocity = jax.tree.map(lambda speed: -speed * gradient, speeds)
        return velocity, None if dual is None else -gradient

    def jacobian(self, t: Time, y: tuple[Blocks, Float[Array, " d"] | None], args: Any):
        return self.with_jacobian(t, y, args)[1]

    def with_jacobian(self, t: Time, y: tuple[Blocks, Float[Array, " d"] | None], args: Any):
        v, dual = y
        velocity, gradient, inner = _linearized(self.coordinates, self.loss, v)
        zero = jax.tree.map(jnp.zeros_like, dual)
        jacobian = DiagonalPlusLowRank(
            diagonal=(inner.diagonal, zero),
            left=(inner.left, jax.tree.map(lambda x: -jnp.ones_like(x), dual)),
            right=(inner.right, zero),
            design=inner.design,
            weight=inner.weight,
        )
        return (velocity, None if dual is None else -gradient), jacobian
