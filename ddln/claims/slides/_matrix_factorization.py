"""Slide "Other models and challenges": products of two matrices from small starts."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln._results import is_okay
from ddln._types import PRNGKeyArray
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.claims.slides._scale import _quantiles
from ddln.flows import gradient_flow
from ddln.limits import minimum_l1
from ddln.losses import LeastSquares
from ddln.parameterizations import MatrixFactorization

TITLE = "Other models and challenges"
SIZE, MEASUREMENTS = 3, 2
SCALES = np.geomspace(1e-4, 1.0, 5)
LATE = 1e4
# Steps of the iteration that finds a solution of smaller nuclear norm.
ITERATIONS = 200


@cache
def _problems(settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Symmetric measurement matrices, commuting and not; targets; and the eigenvalues of the former."""
    found = problems.each(_measurements, problems.keys(settings, "matrices"))
    return tuple(np.asarray(part) for part in found)  # pyright: ignore[reportReturnType]


def _measurements(key: PRNGKeyArray):
    key_basis, key_values, key_general, key_y = jax.random.split(key, 4)
    basis, _ = jnp.linalg.qr(jax.random.normal(key_basis, (SIZE, SIZE)))
    values = jax.random.normal(key_values, (MEASUREMENTS, SIZE))
    commuting = jnp.einsum("ij,nj,kj->nik", basis, values, basis)
    general = jax.random.normal(key_general, (MEASUREMENTS, SIZE, SIZE))
    general = (general + jnp.swapaxes(general, 1, 2)) / 2
    return commuting, general, jax.random.normal(key_y, (MEASUREMENTS,)), values


@cache
def flows(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """U V^T at a late time from U = scale I, V = 0, [problem, kind, scale, size, size]; and `_change`.

    The kinds are commuting and general measurements.
    """
    commuting, general, y, _ = _problems(settings)
    ends, changes = problems.each(_flows, np.stack([commuting, general], axis=1), y)
    return np.asarray(ends), np.asarray(changes)


def _flows(matrices, y):
    def end(X, scale):
        start = MatrixFactorization(scale * jnp.eye(SIZE), jnp.zeros((SIZE, SIZE)))
        flow = gradient_flow(
            start,
            LeastSquares(X, y),
            LATE,
            rtol=1e-8,
            dual=False,
            adjoint=problems.FORWARD,
            throw=False,
        )
        end = jnp.where(is_okay(flow.result), flow.theta[-1], jnp.nan)
        return end, _change(start, flow.final)  # pyright: ignore[reportArgumentType]

    over_scales = jax.vmap(end, in_axes=(None, 0))
    return jax.vmap(over_scales, in_axes=(0, None))(matrices, jnp.asarray(SCALES))


def _change(start: MatrixFactorization, end: MatrixFactorization):
    """The change of U^T U - V^T V, over |U|^2 + |V|^2."""
    first, last = (one.left.T @ one.left - one.right.T @ one.right for one in (start, end))
    size = jnp.sum(jnp.square(end.left)) + jnp.sum(jnp.square(end.right))
    return jnp.linalg.norm(last - first) / size


def _nuclear_norm(w: np.ndarray) -> np.ndarray:
    return np.linalg.svd(w, compute_uv=False).sum(axis=-1)


def _smaller(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Nuclear norms of solutions of <X_n, W> = y_n, near the least ones, one for each problem.

    Iteratively reweighted least squares: W minimizes tr(W^T K W) for K = (W W^T + eps)^(-1/2).
    """
    rows = X.reshape(*X.shape[:2], -1)
    w = np.einsum("pin,pn->pi", np.linalg.pinv(rows), y).reshape(-1, SIZE, SIZE)
    for epsilon in np.geomspace(1.0, 1e-16, ITERATIONS):
        values, vectors = np.linalg.eigh(w @ np.swapaxes(w, 1, 2))
        root = np.sqrt(np.maximum(values, 0) + epsilon)
        inverse = np.einsum("pij,pj,pkj->pik", vectors, root, vectors)  # K^-1
        moved = np.einsum("pij,pnjk->pnik", inverse, X)
        gram = np.einsum("pnij,pmij->pnm", X, moved)
        multipliers = np.linalg.solve(gram, y[..., None])[..., 0]
        w = np.einsum("pnij,pn->pij", moved, multipliers)
    assert np.abs(np.einsum("pnij,pij->pn", X, w) - y).max() < 1e-8
    return _nuclear_norm(w)


@claim(id="slides-matrix-factorization")
def nuclear_norm(settings: Settings) -> Evidence:
    r"""Other models and challenges: Matrix factorization: minimal nuclear norm.

    For $h(U, V) = U V^\top$ and small initialization $w(t)$ goes to the solution of minimal nuclear norm.

        w_\infty \to \arg\min \{ \|w\|_* : \mathcal{A}(w) = y \}

    Condition: The measurement matrices commute. For others the flow ends at matrices of low rank, whose
    nuclear norm stays above the least one as the scale vanishes.

    Slide "Other models and challenges" (Gunasekar et al. 2017), on two measurements of 3 x 3.
    """
    commuting, general, y, values = _problems(settings)
    # Commuting matrices have one basis, in which the least norm is that of a diagonal.
    least = [np.abs(minimum_l1(*one)).sum() for one in zip(values, y, strict=True)]
    cases = (
        ("with the condition", "commuting", np.array(least), commuting),
        ("without it", "random symmetric", _smaller(general, y), general),
    )
    numbers = []
    with plots.style():
        figure, ax = plt.subplots()
        for (case, name, reference, X), end in zip(
            cases, np.moveaxis(flows(settings)[0], 1, 0), strict=True
        ):
            excess = _nuclear_norm(end) / reference[:, None] - 1
            _quantiles(ax, SCALES, excess, label=f"{name} measurements")
            numbers += [
                measured(
                    f"{name} measurements: median excess of the nuclear norm, scale $10^{{-4}}$",
                    np.median(excess[:, 0]),
                    "<=",
                    1e-3,
                    case=case,
                ),
                measured(
                    f"{name} measurements: median $|\\mathcal{{A}}(w) - y|$ at the end, relative",
                    np.median(_misfit(X, y, end[:, 0])),
                    "<=",
                    1e-6,
                    case=case,
                ),
            ]
        ax.set(xlabel=r"scale of $U$; $V = 0$", ylabel="excess of the nuclear norm")
        ax.legend()
    theirs = _smaller(commuting, y) / np.array(least) - 1
    numbers.append(
        measured(
            "largest difference of the two ways to find the least norm, commuting measurements",
            np.abs(theirs),
            "<=",
            1e-3,
            case="with the condition",
        )
    )
    return Evidence(
        tuple(numbers),
        remark=(
            "For random measurements the reference is a solution found by reweighted least squares; the "
            "least norm is not larger, so that the excess is at least the one shown."
        ),
        figure=figure,
        caption=(
            "The excess of the nuclear norm at the end of the flow over the least one, against the scale of "
            "the start, for measurement matrices that commute and for random ones. The first vanishes with "
            "the scale, the second does not. Median and the middle 80 % of the problems."
        ),
    )


def _misfit(X, y, w):
    return np.linalg.norm(np.einsum("pnij,pij->pn", X, w) - y, axis=1) / np.linalg.norm(y, axis=1)
