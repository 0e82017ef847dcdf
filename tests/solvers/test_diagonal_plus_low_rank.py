"""The structured operator and its solver, against dense linear algebra."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ddln.solvers import DiagonalPlusLowRank

SHAPES = {"n<d": (3, 7), "n=d": (5, 5), "n>d": (9, 4), "n=1": (1, 6), "d=1": (6, 1)}
KINDS = (
    "plain",
    "zero left",
    "zero right",
    "negative",
    "mixed signs",
    "zero weights",
    "one weight",
)


def blocks_of(shape, kind, blocks, seed=0):
    """left, right (one sign of left * right), diagonal and weight as NumPy arrays."""
    n, d = shape
    rng = np.random.default_rng(seed)
    left, right = rng.uniform(0.1, 2, (2, blocks, d))
    weight = rng.uniform(0.1, 3, n)
    if kind == "zero left":
        left[:, ::2] = 0
    elif kind == "zero right":
        right[:, ::2] = 0
    elif kind == "negative":
        left, right = -left, -right
    elif kind == "mixed signs":
        signs = rng.choice([-1, 1], (blocks, d))
        left, right = left * signs, right * signs
    elif kind == "zero weights":
        weight[:] = 0
    elif kind == "one weight":
        weight[1:] = 0
    return left, right, rng.uniform(0.5, 2, (blocks, d)), weight, rng.normal(size=(n, d))


def operator_and_matrix(shape, kind="plain", blocks=1, dtype=jnp.float64):
    left, right, diagonal, weight, design = blocks_of(shape, kind, blocks)
    hessian = np.tile(design.T @ np.diag(weight) @ design, (blocks, blocks))
    matrix = np.diag(diagonal.ravel()) + np.diag(left.ravel()) @ hessian @ np.diag(right.ravel())

    def tree(rows):
        rows = [jnp.asarray(row, dtype) for row in rows]
        return rows[0] if blocks == 1 else tuple(rows)

    operator = DiagonalPlusLowRank(
        tree(diagonal),
        tree(left),
        tree(right),
        jnp.asarray(design, dtype),
        jnp.asarray(weight, dtype),
    )
    return operator, matrix


def flat(tree):
    return ravel_pytree(tree)[0]


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_lineax_conformance(shape, blocks):
    operator, matrix = operator_and_matrix(shape, "mixed signs", blocks)
    _, unravel = ravel_pytree(operator.diagonal)
    vector = np.random.default_rng(1).normal(size=matrix.shape[0])
    assert operator.in_structure() == operator.out_structure()
    assert operator.in_size() == operator.out_size() == matrix.shape[0]
    np.testing.assert_allclose(operator.as_matrix(), matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(operator.T.as_matrix(), matrix.T, rtol=1e-12, atol=1e-12)
    for op, dense in ((operator, matrix), (operator.T, matrix.T)):
        product = op.mv(unravel(jnp.asarray(vector)))
        assert jax.tree.structure(product) == jax.tree.structure(operator.diagonal)
        np.testing.assert_allclose(flat(product), dense @ vector, rtol=1e-10)
    shifted = operator.identity_minus(jnp.array(0.3))
    eye = np.eye(matrix.shape[0])
    np.testing.assert_allclose(shifted.as_matrix(), eye - 0.3 * matrix, rtol=1e-12, atol=1e-12)
    for same in (lx.linearise(operator), lx.materialise(operator), lx.conj(operator)):
        np.testing.assert_allclose(same.as_matrix(), matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(lx.diagonal(operator), np.diag(matrix), rtol=1e-12)
    assert not lx.is_symmetric(operator)
    assert not lx.is_diagonal(operator)
    assert not lx.is_positive_semidefinite(operator)
    # It composes with lineax's own operators and solvers.
    np.testing.assert_allclose((operator * 2.0).as_matrix(), 2 * matrix, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_solve_equals_the_dense_solve(shape, blocks):
    """Every kind of coefficients is a lane of one program."""
    operators, matrices = zip(
        *(operator_and_matrix(shape, kind, blocks) for kind in KINDS), strict=True
    )
    lanes = jax.tree.map(lambda *leaves: jnp.stack(leaves), *operators)
    vector = np.random.default_rng(2).normal(size=matrices[0].shape[0])
    _, unravel = ravel_pytree(operators[0].diagonal)

    @jax.jit
    @jax.vmap
    def solve(operator):
        right = unravel(jnp.asarray(vector))
        return [
            flat(lx.linear_solve(op, right, op.solver(), throw=False).value)
            for op in (operator, operator.T)
        ]

    value, transposed = solve(lanes)
    for kind, matrix, x, y in zip(KINDS, matrices, value, transposed, strict=True):
        np.testing.assert_allclose(x, np.linalg.solve(matrix, vector), rtol=1e-9, err_msg=kind)
        np.testing.assert_allclose(y, np.linalg.solve(matrix.T, vector), rtol=1e-9, err_msg=kind)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_transposed_state_is_the_state_of_the_transpose(shape):
    operator, _ = operator_and_matrix(shape, "mixed signs")
    solver = operator.solver()
    transposed, _ = solver.transpose(solver.init(operator, {}), {})
    expected = solver.init(operator.transpose(), {})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), transposed, expected)


@pytest.mark.parametrize("shape", [(3, 7), (9, 4)], ids=["n<d", "n>d"])
def test_negative_products_are_solved_while_definite(shape):
    """left * right <= 0 is a step backward in time: fine while the matrix keeps its signature."""
    operator, _ = operator_and_matrix(shape)
    matrix = np.asarray(operator.as_matrix())
    small = 0.3 / np.linalg.eigvals(matrix).real.max()
    vector = jnp.asarray(np.random.default_rng(3).normal(size=shape[1]))
    shifted = operator.identity_minus(jnp.array(small))
    value = lx.linear_solve(shifted, vector, shifted.solver()).value
    expected = np.linalg.solve(np.eye(shape[1]) - small * matrix, vector)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(3, 7), (9, 4)], ids=["n<d", "n>d"])
@pytest.mark.parametrize("flaw", ["zero diagonal", "negative diagonal", "indefinite core"])
def test_failure_is_a_code_and_finite_values(shape, flaw):
    operator, _ = operator_and_matrix(shape)
    diagonal = operator.diagonal
    if flaw == "zero diagonal":
        diagonal = diagonal.at[0].set(0.0)
    if flaw == "negative diagonal":
        diagonal = diagonal.at[0].set(-1e-3)
    left = -100 * operator.left if flaw == "indefinite core" else operator.left
    flawed = DiagonalPlusLowRank(diagonal, left, operator.right, operator.design, operator.weight)
    solver = flawed.solver()
    value, result, _ = solver.compute(solver.init(flawed, {}), jnp.ones(shape[1]), {})
    assert result == lx.RESULTS.singular
    assert np.all(value == 0)


def test_float32():
    operator, matrix = operator_and_matrix((3, 7), "mixed signs", dtype=jnp.float32)
    value = lx.linear_solve(operator, jnp.ones(7, jnp.float32), operator.solver()).value
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, np.linalg.solve(matrix, np.ones(7)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 7), (9, 4)], ids=["n<d", "n>d"])
def test_derivatives_of_a_solve(shape):
    """lineax differentiates through the solver by its transpose; compare with the dense matrix."""
    operator, _ = operator_and_matrix(shape, "mixed signs")
    vector = jnp.linspace(1.0, 2.0, shape[1])

    def structured(operator):
        return jnp.sum(lx.linear_solve(operator, vector, operator.solver()).value ** 2)

    def dense(operator):
        return jnp.sum(jnp.linalg.solve(operator.as_matrix(), vector) ** 2)

    got, expected = jax.grad(structured)(operator), jax.grad(dense)(operator)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), got, expected
    )


def test_stiff_systems_keep_their_accuracy():
    """Stiffness 1e10 in the range of the design: the solution there is that much smaller."""
    rng = np.random.default_rng(4)
    design = rng.normal(size=(4, 12))
    operator = DiagonalPlusLowRank(
        jnp.ones(12), jnp.full(12, 1e10), jnp.ones(12), jnp.asarray(design), jnp.ones(4)
    )
    vector = jnp.asarray(rng.normal(size=12))
    value = lx.linear_solve(operator, vector, operator.solver()).value
    # In the limit the solution is the projection on the null space of the design.
    projected = vector - np.linalg.pinv(design) @ (design @ vector)
    np.testing.assert_allclose(value, projected, atol=1e-8)
