"""Diagonal plus low-rank operators, the Jacobians of separable flows, and their Woodbury solve."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import PyTree

from ddln._numerics import default_platform, inverse_factor, product
from ddln._types import Array, Bool, Float, Scalar
from ddln.solvers._structure import AbstractStructuredOperator, register_plain

Blocks = PyTree[Float[Array, " d"]]


class DiagonalPlusLowRank(AbstractStructuredOperator):
    """A = diag(diagonal) + diag(left) X^T diag(weight) X diag(right).

    `diagonal`, `left` and `right` are pytrees of vectors [d] with the structure of the state. The
    design X acts on the sum of the blocks, and its transpose on every block alike:

        (A x)_b = diagonal_b x_b + left_b X^T (weight * X sum_c right_c x_c).

    I - scale * A has the same form. Its solver, `Woodbury`, needs a positive diagonal, weight >= 0
    and left * right of one sign.

    Attributes:
        diagonal: a pytree of arrays [d].
        left: a pytree of arrays [d].
        right: a pytree of arrays [d].
        design: X, shape [n, d].
        weight: shape [n].
    """

    diagonal: Blocks
    left: Blocks
    right: Blocks
    design: Float[Array, "n d"]
    weight: Float[Array, " n"]

    def mv(self, vector):
        inner = self.weight * product(self.design, sum_product(self.right, vector))
        outer = product(self.design.T, inner)
        return jax.tree.map(
            lambda a, left, x: a * x + left * outer, self.diagonal, self.left, vector
        )

    def as_matrix(self):
        left = jnp.concatenate(jax.tree.leaves(self.left))
        right = jnp.concatenate(jax.tree.leaves(self.right))
        copies = len(jax.tree.leaves(self.left))
        hessian = jnp.tile(_gram(self.design, self.weight), (copies, copies))
        diagonal = jnp.concatenate(jax.tree.leaves(self.diagonal))
        return jnp.diag(diagonal) + left[:, None] * hessian * right[None, :]

    def transpose(self):
        return DiagonalPlusLowRank(self.diagonal, self.right, self.left, self.design, self.weight)

    def in_structure(self):
        return jax.eval_shape(lambda: self.diagonal)

    def out_structure(self):
        return self.in_structure()

    def identity_minus(self, scale: Scalar) -> "DiagonalPlusLowRank":
        diagonal = jax.tree.map(lambda a: 1 - scale * a, self.diagonal)
        left = jax.tree.map(lambda a: -scale * a, self.left)
        return DiagonalPlusLowRank(diagonal, left, self.right, self.design, self.weight)

    def solver(self) -> "Woodbury":
        return Woodbury()


register_plain(DiagonalPlusLowRank)


class WoodburyState(NamedTuple):
    """A factorized operator, the state of `Woodbury`.

    A^-1 r = (r - left M sum(right r / e)) / e with e = diagonal. With a design M = X^T F X, without one
    M = F, for F the product of `factors`, the first one to the right. They come from the inverse factor
    of the capacitance matrix. (Products with an inverse are several times faster than a pair of
    triangular solves for batches of small systems, and as accurate here, because S >= I.)
    """

    inverse: Blocks
    left: Blocks
    right: Blocks
    design: Float[Array, "n d"] | None
    factors: tuple[Float[Array, "m m"], ...]
    okay: Bool[Array, ""]


class Woodbury(lx.AbstractLinearSolver):
    """A linear solver for `DiagonalPlusLowRank` operators, by a system of min(n, d) unknowns.

    With e = diagonal, delta = sum over blocks of left * right / e and Z = diag(sqrt(weight)) X, the
    Woodbury identity gives

        A^-1 r = (r - left X^T z) / e,   z = sqrt(weight) * (S^-1 Z sum(right r / e)),

    with the capacitance matrix S = I + Z diag(delta) Z^T, which is positive definite if delta >= 0
    and factorized by Cholesky. With fewer coordinates than samples, H = Z^T Z,
    D = diag(sqrt(|delta|)) and s the sign of delta,

        X^T z = (H - s Y^T Y) sum(right r / e),   Y = C^-1 D H,   C C^T = I + s D H D,

    without a division by an entry of left or right.

    If the diagonal is positive and Cholesky succeeds, A is similar to a positive definite matrix.
    Then a step h with A = I - gamma h J resolves every unstable mode. (An implicit method with a
    longer step damps such a mode, and leaves a saddle too late.) Otherwise, and for a definite A
    with a negative entry on the diagonal, the result is `RESULTS.singular` and the values are zero.
    """

    def init(self, operator: DiagonalPlusLowRank, options) -> WoodburyState:
        del options
        return self.checked(operator, self.core(operator))

    def core(self, operator: DiagonalPlusLowRank) -> Float[Array, "m m"]:
        """Factorize the capacitance matrix, most of the work of a solve; not finite if this fails."""
        inverse = jax.tree.map(lambda e: 1 / e, operator.diagonal)
        scaled = jax.tree.map(jnp.multiply, operator.right, inverse)
        delta = sum_product(operator.left, scaled)
        n, d = operator.design.shape
        if n <= d:
            root = jnp.sqrt(operator.weight)
            z = root[:, None] * operator.design
            system = jnp.eye(n, dtype=z.dtype) + product(z * delta[None, :], z.T)
            return inverse_factor(system) * root[None, :]
        hessian = _gram(operator.design, operator.weight)
        sign = jnp.where(jnp.any(delta < 0), -1, 1).astype(delta.dtype)
        size = jnp.sqrt(sign * delta)
        scaled = size[:, None] * hessian
        system = jnp.eye(d, dtype=delta.dtype) + sign * scaled * size[None, :]
        y = product(inverse_factor(system), scaled)
        return hessian - sign * product(y.T, y)

    def checked(self, operator: DiagonalPlusLowRank, core: Float[Array, "m m"]) -> WoodburyState:
        """The state from the factorized capacitance matrix, with a test of whether it can be solved."""
        okay = jnp.all(jnp.isfinite(core))
        for leaf in jax.tree.leaves(operator.diagonal):
            okay = okay & jnp.all(leaf > 0)
        state = self.unchecked(operator, core)
        # A solution of zero, so that the stages of a step to be rejected cannot overflow.
        inverse, factors = jax.tree.map(
            lambda leaf: jnp.where(okay, leaf, 0), (state.inverse, state.factors)
        )
        return state._replace(inverse=inverse, factors=factors, okay=okay)

    def unchecked(self, operator: DiagonalPlusLowRank, core: Float[Array, "m m"]) -> WoodburyState:
        """The state from the factorized capacitance matrix of an operator known to be solvable."""
        n, d = operator.design.shape
        design, factors = operator.design, (core, core.T)
        if n > d:
            design, factors = None, (core,)
        elif default_platform() != "cpu":
            # A launch less for each solve; on a CPU the product costs more than it saves.
            factors = (product(core.T, core),)
        inverse = jax.tree.map(lambda e: 1 / e, operator.diagonal)
        okay = jnp.asarray(True)
        return WoodburyState(inverse, operator.left, operator.right, design, factors, okay)

    def compute(self, state: WoodburyState, vector, options):
        del options
        solution, _ = self.solution(state, vector)
        result = lx.RESULTS.where(state.okay, lx.RESULTS.successful, lx.RESULTS.singular)
        return solution, result, {}

    def solution(self, state: WoodburyState, vector: Blocks) -> tuple[Blocks, Float[Array, " d"]]:
        """x with A x = vector, and X^T z = X^T diag(weight) X sum(right x)."""
        divided = jax.tree.map(jnp.multiply, state.inverse, vector)
        inner = sum_product(state.right, divided)
        outer = inner if state.design is None else product(state.design, inner)
        for factor in state.factors:
            outer = product(factor, outer)
        if state.design is not None:
            outer = product(state.design.T, outer)
        solution = jax.tree.map(
            lambda x, inverse, left: x - inverse * left * outer, divided, state.inverse, state.left
        )
        return solution, outer

    def transpose(self, state: WoodburyState, options):
        return state._replace(left=state.right, right=state.left), options

    def conj(self, state: WoodburyState, options):
        return state, options

    def assume_full_rank(self):
        return True


def _gram(design: Float[Array, "n d"], weight: Float[Array, " n"]) -> Float[Array, "d d"]:
    """X^T diag(weight) X."""
    return product(design.T * weight[None, :], design)


def sum_product(a: Blocks, b: Blocks) -> Float[Array, " d"]:
    """The sum over blocks of a * b."""
    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(jnp.multiply, a, b)))
