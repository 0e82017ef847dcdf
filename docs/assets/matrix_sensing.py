"""Draws matrix-sensing.png: `python docs/assets/matrix_sensing.py`. Needs cvxpy."""

from pathlib import Path

import cvxpy
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ddln
from ddln import plots

SIZE = 3
SCALES = np.geomspace(1e-1, 1e-4, 7)


def problems():
    """Two measurements of a positive definite matrix: commuting ones, and two general pairs."""
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))

    def diagonal(values):
        return basis @ np.diag(values) @ basis.T

    def general():
        X = rng.normal(size=(2, SIZE, SIZE))
        root = rng.normal(size=(SIZE, SIZE))
        return (X + X.transpose(0, 2, 1)) / 2, root @ root.T / SIZE

    commuting = np.stack([diagonal(rng.normal(size=SIZE)) for _ in range(2)])
    yield "commuting", commuting, diagonal(rng.uniform(0.2, 1, SIZE))
    for label in ("general, 1", "general, 2"):
        yield (label, *general())


def minimum_trace(X, y):
    Z = cvxpy.Variable((SIZE, SIZE), PSD=True)
    constraints = [cvxpy.trace(A @ Z) == b for A, b in zip(X, y, strict=True)]
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.trace(Z)), constraints)
    return problem.solve(solver=cvxpy.CLARABEL)


def ends(X, y, depth):
    """The singular values where the flow ends, for each scale."""

    @jax.jit
    @jax.vmap
    def singular_values(scale):
        # Balanced, with theta = scale^2 I for every depth.
        factor = scale ** (2 / depth) * jnp.eye(SIZE)
        start = ddln.DeepMatrixFactorization([factor] * depth)
        flow = ddln.gradient_flow(
            start, ddln.LeastSquares(X, y), 1e5, event=ddln.LossBelow(1e-14), throw=False, rtol=1e-8
        )
        return flow.theta[-1]

    thetas = np.asarray(singular_values(jnp.asarray(SCALES)))
    return np.linalg.svd(thetas, compute_uv=False)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with plots.style():
        figure = plt.figure(figsize=(7.0, 2.6))
        left, right = figure.subplots(1, 2)
        for color, (label, X, target) in enumerate(problems()):
            y = np.einsum("nij,ij->n", X, target)
            best = minimum_trace(X, y)
            for depth, line in ((2, "-"), (3, "--")):
                values = ends(X, y, depth)
                name = f"{label}, depth {depth}"
                excess = np.abs(values.sum(axis=1) / best - 1)
                left.loglog(SCALES, excess, line, color=f"C{color}", label=name)
                right.loglog(SCALES, values[:, 1] / values[:, 0], line, color=f"C{color}")
                print(name, excess[::2], values[-1])
        left.set(xlabel="scale of the start", ylabel="excess of the nuclear norm")
        right.set(xlabel="scale of the start", ylabel="second singular value / first")
        left.legend(fontsize="x-small")
        figure.savefig(Path(__file__).with_name("matrix-sensing.png"))
