"""The predictions at which a convex loss is least."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import RowSpace, inverse_factor, product
from ddln._types import Array, Bool, Float, Int
from ddln.losses import AbstractPredictionLoss

MOST_STEPS, HALVINGS = 100, 30


class _Iterate(eqx.Module):
    point: Float[Array, " m"]
    done: Bool[Array, ""]
    count: Int[Array, ""]


def least_predictions(loss: AbstractPredictionLoss) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """z = X theta at a minimizer of a convex loss, and whether it has one.

    Newton's method with a line search for a in z = U a, X = U S V^T; z is unique if the pointwise loss is
    strictly convex. Where the loss falls without end, as a logistic one on separable data, the steps do
    not get shorter. z has the derivatives of the implicit function theorem, in X where its rank is full.
    """
    design, y = jax.lax.stop_gradient((loss.design, loss.y))
    basis = RowSpace.of(design)
    left = jnp.where(basis.singular[None] > 0, basis.left, 0)
    eps = float(jnp.finfo(y.dtype).eps)
    tolerance = 100 * eps**0.5

    def total(point):
        return jax.lax.stop_gradient(jnp.sum(loss.pointwise(product(left, point), y)))

    def solver(point):
        """The map r -> (U^T C U)^-1 r, scaled to a unit diagonal."""
        curvature = loss.pointwise_curvature(product(left, point), y)
        bend = product(left.T * curvature[None], left)
        diagonal = jnp.diagonal(bend)
        some = diagonal > float(jnp.finfo(y.dtype).tiny)
        scale = jax.lax.rsqrt(jnp.where(some, diagonal, 1))
        unit = scale[:, None] * bend * scale[None]
        rounding = eps * (4 + len(bend) / 8)
        inverse = inverse_factor(unit + jnp.diag(jnp.where(some, rounding, 1)))
        scaled = jax.lax.stop_gradient(inverse * scale[None])
        return lambda side: product(scaled.T, product(scaled, side))

    def slope(point):
        return product(loss.pointwise_gradient(product(left, point), y), left)

    def step(state):
        forces = slope(state.point)
        change = -solver(state.point)(forces)
        before = total(state.point)
        lengths = 0.5 ** jnp.arange(HALVINGS, dtype=change.dtype)
        after = jax.vmap(lambda length: total(state.point + length * change))(lengths)
        # At the minimum rounding hides the decrease.
        drop = jnp.vdot(forces, change, precision="highest")
        falls = after <= before + 1e-4 * lengths * drop + 8 * eps * jnp.abs(before)
        length = lengths[jnp.where(jnp.any(falls), jnp.argmax(falls), HALVINGS - 1)]
        far = jnp.max(jnp.abs(product(left, change)))
        size = 1 + jnp.max(jnp.abs(product(left, state.point)))
        done = (length == 1) & (far <= tolerance * size)
        return _Iterate(state.point + length * change, done, state.count + 1)

    start = _Iterate(jnp.zeros(left.shape[1], left.dtype), jnp.asarray(False), jnp.asarray(0))
    end = jax.lax.while_loop(lambda s: ~s.done & (s.count < MOST_STEPS), step, start)
    point = jax.lax.stop_gradient(end.point)
    solve = solver(point)
    point = jax.lax.stop_gradient(point - solve(slope(point)))
    # The last step in theta = V b, which sees X and y move.
    sizes = jnp.where(basis.singular > 0, basis.singular, 1)
    moving = product(loss.design, basis.right.T)
    b = point / sizes
    forces = product(loss.pointwise_gradient(product(moving, b), loss.y), moving)
    z = product(moving, b - solve(forces / sizes) / sizes)
    return z, end.done & jnp.all(jnp.isfinite(z))
