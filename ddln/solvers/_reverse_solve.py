"""Woodbury solve with a custom VJP that reuses the matrix products of the forward pass."""

import jax

from ddln._numerics import product
from ddln._types import Array, PyTree
from ddln.solvers._diagonal_plus_low_rank import (
    DiagonalPlusLowRank,
    Woodbury,
    WoodburyState,
    sum_product,
)


@jax.custom_vjp
def factorized(operator: DiagonalPlusLowRank, core: Array | None) -> WoodburyState:
    """Factorize an operator for `solved`, with zero derivative.

    The factorized capacitance matrix `core` is computed unless it is given.
    """
    return _factorized(operator, core)


def _factorized(operator: DiagonalPlusLowRank, core: Array | None) -> WoodburyState:
    solver = Woodbury()
    return solver.init(operator, {}) if core is None else solver.unchecked(operator, core)


factorized.defvjp(lambda *argument: (_factorized(*argument), None), lambda *_: (None, None))


@jax.custom_vjp
def solved(operator: DiagonalPlusLowRank, state: WoodburyState, vector: PyTree) -> PyTree:
    """The solution x of A x = vector, with its derivative by the implicit function theorem.

    For a cotangent x_bar let A^T lam = x_bar. For A = diag(e) + diag(l) X^T diag(w) X diag(r) the
    cotangents of vector, e, l and r are

        lam,   -lam x,   -lam X^T (w X (r x)),   -x X^T (w X (l lam)),

    with sums over blocks within the brackets. The products with X^T are by-products of the solves
    for x = (vector - l X^T (w X (r x))) / e and for lam.
    """
    return _forward(operator, state, vector)[0]


def _forward(operator, state, vector):
    x, outer = Woodbury().solution(state, vector)
    return x, (operator, state, x, outer)


def _backward(residuals, x_bar):
    operator, state, x, outer = residuals
    solver = Woodbury()
    state, _ = solver.transpose(state, {})
    lam, outer_bar = solver.solution(state, x_bar)
    right, left = sum_product(operator.right, x), sum_product(operator.left, lam)
    forth, back = product(operator.design, right), product(operator.design, left)
    bars = DiagonalPlusLowRank(
        diagonal=jax.tree.map(lambda a, b: -a * b, lam, x),
        left=jax.tree.map(lambda a: -a * outer, lam),
        right=jax.tree.map(lambda a: -a * outer_bar, x),
        design=-operator.weight[:, None]
        * (forth[:, None] * left[None, :] + back[:, None] * right[None, :]),
        weight=-forth * back,
    )
    return bars, None, lam


solved.defvjp(_forward, _backward)
