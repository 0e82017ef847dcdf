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
        velocity, _, _, jacobian = _linearized(self.coordinates, self.loss, y)
        return velocity, jacobian


def _linearized(
    coordinates: AbstractReducedCoordinates,
    loss: AbstractPredictionLoss,
    v: Blocks,
    response: Any = None,
) -> tuple[Blocks, Float[Array, " d"], Array | None, DiagonalPlusLowRank]:
    """The velocity -p phi(grad L), phi(grad L), phi', and the Jacobian of the velocity."""
    theta, speeds, effective_slopes, speed_slopes = coordinates.with_slopes(v)
    gradient, lefts, steepness = loss.gradient(theta), jax.tree.map(jnp.negative, speeds), None
    if response is not None:
        steepness, gradient = response.slope(gradient), response(gradient)
        lefts = jax.tree.map(lambda left: left * steepness, lefts)
    jacobian = DiagonalPlusLowRank(
        diagonal=jax.tree.map(lambda slope: -slope * gradient, speed_slopes),
        left=lefts,
        right=effective_slopes,
        design=loss.design,
        weight=loss.curvature(theta),
    )
    velocity = jax.tree.map(lambda speed: -speed * gradient, speeds)
    return velocity, gradient, steepness, jacobian


class SeparableDualField(AbstractStructuredField):
    """The flow of `SeparableField` with its dual: y = (v, xi), xi' = -grad L(theta(v)).

    The dual costs no further product with the design. xi = None omits it. With a response phi it is
    v' = -p(v) phi(grad L(theta(v))), xi' = -phi(grad L(theta(v))).

    Args:
        coordinates: theta(v) and p(v) with their derivatives, elementwise.
        loss: a loss of linear predictions, convex.
        response: phi, elementwise and not decreasing, with a method `slope` for phi'; None is the
            identity.
    """

    coordinates: AbstractReducedCoordinates
    loss: AbstractPredictionLoss
    response: Any = None
    autonomous: ClassVar[bool] = True

    def __call__(self, t: Time, y: tuple[Blocks, Float[Array, " d"] | None], args: Any):
        v, dual = y
        theta, speeds = self.coordinates.effective_and_speed(v)
        gradient = self.loss.gradient(theta)
        if self.response is not None:
            gradient = self.response(gradient)
        velocity = jax.tree.map(lambda speed: -speed * gradient, speeds)
        return velocity, None if dual is None else -gradient

    def jacobian(self, t: Time, y: tuple[Blocks, Float[Array, " d"] | None], args: Any):
        return self.with_jacobian(t, y, args)[1]

    def with_jacobian(self, t: Time, y: tuple[Blocks, Float[Array, " d"] | None], args: Any):
        v, dual = y
        velocity, gradient, steepness, inner = _linearized(
            self.coordinates, self.loss, v, self.response
        )
        zero = jax.tree.map(jnp.zeros_like, dual)

        def slope_of(x):
            return -jnp.ones_like(x) if steepness is None else -steepness

        jacobian = DiagonalPlusLowRank(
            diagonal=(inner.diagonal, zero),
            left=(inner.left, jax.tree.map(slope_of, dual)),
            right=(inner.right, zero),
            design=inner.design,
            weight=inner.weight,
        )
        return (velocity, None if dual is None else -gradient), jacobian
