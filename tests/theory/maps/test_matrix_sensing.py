"""Where small starts of a symmetric factorization end, against the minimum trace by cvxpy."""

import cvxpy
import jax
import jax.numpy as jnp
import numpy as np

import ddln

SCALES = np.array([1e-1, 1e-2, 1e-3])


def measured(kind):
    """Two measurement matrices, in one eigenbasis or not, of a positive semidefinite matrix."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(2, 3, 3))
    root = rng.normal(size=(3, 3))
    X, target = (X + X.transpose(0, 2, 1)) / 2, root @ root.T / 3
    if kind == "commuting":
        basis, _ = np.linalg.qr(root)
        X = np.stack([basis @ np.diag(np.diag(one)) @ basis.T for one in X])
        target = basis @ np.diag(np.diag(target)) @ basis.T
    return X, np.einsum("nij,ij->n", X, target)


def minimum_trace(X, y):
    Z = cvxpy.Variable((3, 3), PSD=True)
    constraints = [cvxpy.trace(A @ Z) == b for A, b in zip(X, y, strict=True)]
    return cvxpy.Problem(cvxpy.Minimize(cvxpy.trace(Z)), constraints).solve(solver=cvxpy.CLARABEL)


def test_minimum_nuclear_norm_for_commuting_measurements_only():
    @jax.jit
    def end(X, y, scale):
        start = ddln.SymmetricFactorization(scale * jnp.eye(3))
        flow = ddln.gradient_flow(
            start, ddln.LeastSquares(X, y), 1e4, event=ddln.LossBelow(1e-14), throw=False, rtol=1e-8
        )
        return flow.theta[-1], flow.loss[-1]

    excess = {}
    for kind in ("commuting", "general"):
        X, y = measured(kind)
        thetas, losses = zip(*[end(X, y, scale) for scale in SCALES], strict=True)
        assert max(losses) < 2e-14
        best = minimum_trace(X, y)
        excess[kind] = np.array([np.trace(theta) for theta in thetas]) / best - 1
    assert np.all(excess["commuting"][1:] < 0.1 * excess["commuting"][:-1])
    assert excess["commuting"][-1] < 1e-4
    assert excess["general"][-1] > 1e-3
