"""The semidefinite complementarity problem against CVXPY, its conditions, and its derivative."""

import cvxpy
import jax
import jax.numpy as jnp
import numpy as np

from ddln.flows._complementarity import complementary, symmetric_basis

ROWS = 2
BASIS = symmetric_basis(ROWS)


def problems(size):
    """Gram matrices of 12 random weights, some tiny, and forces of three sizes."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(size, len(BASIS), 12))
    normals[::5] *= 1e-3
    sizes = rng.choice([0.01, 1.0, 100.0], size=(size, 1))
    return normals @ normals.swapaxes(1, 2) / 2, sizes * rng.normal(size=(size, len(BASIS)))


def matrices(entries):
    return np.einsum("bq,qij->bij", entries, BASIS)


def test_solutions_and_their_derivative():
    gram, force = problems(200)
    rng = np.random.default_rng(1)
    turned = rng.normal(size=gram.shape)
    moves = 1e-3 * gram * (turned + turned.swapaxes(1, 2)), rng.normal(size=force.shape)

    @jax.jit
    @jax.vmap
    def run(gram, force, *moves):
        return jax.jvp(lambda g, f: complementary(g, f, ROWS), (gram, force), moves)

    found, derivative = (np.asarray(value) for value in run(gram, force, *moves))
    rest = np.einsum("bij,bj->bi", gram, found) - force
    sigma, dual = matrices(found), matrices(rest)
    size, width = np.linalg.norm(found, axis=1), np.linalg.norm(force, axis=1)
    height = width / np.trace(gram, axis1=1, axis2=2)
    # Sigma Z = 1e-14 in units of the problem.
    assert (np.linalg.eigvalsh(sigma)[:, 0] > -1e-12 * (size + height)).all()
    assert (np.linalg.eigvalsh(dual)[:, 0] > -1e-11 * width).all()
    assert (np.abs(np.sum(found * rest, axis=1)) < 1e-11 * width * (size + height)).all()
    # Zero, of rank one, and of full rank.
    ranks = np.sum(np.linalg.eigvalsh(sigma) > 1e-6 * height[:, None], axis=1)
    assert (np.bincount(ranks) > 10).all()

    for lane in range(6):
        unknown = cvxpy.Variable((ROWS, ROWS), PSD=True)
        entries = cvxpy.hstack([cvxpy.trace(unknown @ one) for one in BASIS])
        half = np.linalg.cholesky(gram[lane] / np.trace(gram[lane])).T
        objective = cvxpy.sum_squares(half @ entries) / 2 - force[lane] / width[lane] @ entries
        cvxpy.Problem(cvxpy.Minimize(objective)).solve(solver=cvxpy.CLARABEL)
        np.testing.assert_allclose(sigma[lane] / height[lane], unknown.value, atol=1e-4)

    h = 1e-6
    ahead, behind = (
        np.asarray(
            run(*(x + sign * h * m for x, m in zip((gram, force), moves, strict=True)), *moves)[0]
        )
        for sign in (1, -1)
    )
    # Where no eigenvalue of Sigma or Z is near zero, within the difference's reach.
    smallest = (
        np.minimum(np.abs(np.linalg.eigvalsh(sigma)) / height[:, None], 1e9)
        + np.abs(np.linalg.eigvalsh(dual)) / width[:, None]
    )
    clear = smallest.min(axis=1) > 0.05
    clear &= width > 0.1
    error = np.linalg.norm(derivative - (ahead - behind) / (2 * h), axis=1)
    assert clear.sum() > 20
    assert (error[clear] < 1e-5 * (np.linalg.norm(derivative, axis=1) + height)[clear]).all()


def test_one_row_is_a_quotient():
    found = jax.vmap(lambda g, f: complementary(g, f, 1))(
        jnp.asarray([[[2.0]], [[2.0]], [[0.0]]]), jnp.asarray([[3.0], [-3.0], [-1.0]])
    )
    np.testing.assert_array_equal(found, [[1.5], [0.0], [0.0]])
