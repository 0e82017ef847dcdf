"""Gunasekar et al. 2017: the nuclear norm of square factorizations from small starts."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize_scalar

from ddln import plots
from ddln._results import is_okay
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.flows import gradient_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import SymmetricFactorization

SIZE, MEASUREMENTS, PROBLEMS = 3, 2, 8
# Scales of the factor; the product starts as their square times the unit matrix.
SCALES = np.geomspace(1e-8, 1.0, 5)
LATE = 1e7
# Directions of the multipliers at which the dual problem is looked at first.
DIRECTIONS = 2000


def measurements(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that commute and others [problem, kind, n, size, size], and values for one matrix."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(PROBLEMS, SIZE, SIZE)))[0]
    values = rng.normal(size=(PROBLEMS, MEASUREMENTS, SIZE))
    commuting = np.einsum("pij,pnj,pkj->pnik", basis, values, basis)
    general = rng.normal(size=(PROBLEMS, MEASUREMENTS, SIZE, SIZE))
    A = np.stack([commuting, (general + np.swapaxes(general, 2, 3)) / 2], axis=1)
    factor = rng.normal(size=(PROBLEMS, SIZE, SIZE)) / SIZE**0.5
    return A, np.einsum("pknij,pil,pjl->pkn", A, factor, factor)


def least_trace(A: np.ndarray, y: np.ndarray) -> float:
    """The least trace of a positive semidefinite W with <A_n, W> = y_n, for two measurements.

    The dual problem is max <y, nu> with nu_1 A_1 + nu_2 A_2 <= I: in the direction e the largest multiple
    is one over the largest eigenvalue, so that one angle is left to search.
    """

    def value(angle):
        e = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        largest = np.linalg.eigvalsh(np.einsum("...n,nij->...ij", e, A))[..., -1]
        return np.where(largest > 0, e @ y / np.where(largest > 0, largest, 1), 0.0)

    angles = np.linspace(0, 2 * np.pi, DIRECTIONS)
    best, step = angles[np.argmax(value(angles))], angles[1]
    found = minimize_scalar(
        lambda angle: -value(angle), bounds=(best - step, best + step), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    return -float(found.fun)  # pyright: ignore


def _ends(A, y):
    """The product at a late time, for each kind and scale."""

    def end(A, y, scale):
        start = SymmetricFactorization(scale * jnp.eye(SIZE))
        flow = gradient_flow(
            start, LeastSquares(A, y), LATE, rtol=1e-8, dual=False, adjoint=problems.FORWARD, throw=False
        )  # fmt: skip
        return jnp.where(is_okay(flow.result), flow.theta[-1], jnp.nan)

    over_scales = jax.vmap(end, (None, None, 0))
    return jax.vmap(over_scales, (0, 0, None))(A, y, jnp.asarray(SCALES))


@claim(id="gunasekar2017-nuclear-norm")
def nuclear_norm(settings: Settings) -> Evidence:
    r"""Conjecture: Small starts find the least nuclear norm.

    From a start close to zero the flow of a full-dimensional factorization tends to the solution of least
    nuclear norm.

        \lim_{\alpha \to 0} W_\infty(\alpha I) \in \operatorname{arg\,min}_{W \succeq 0} \{ \|W\|_* :
        \langle A_i, W \rangle = y_i \}, \qquad W = U U^\top

    Condition: The measurement matrices commute, the case that the source proves. For others the norm of the
    end stays above the least one as the start vanishes.

    Fixture: eight problems with two symmetric measurements of a positive 3 by 3 matrix, with a common basis
    and without one; $U_0 = \alpha I$, $\alpha = 10^{-8}$ to 1.

    As summarized: the flow at a late time; the least trace from the dual problem, whose multipliers have one
    angle.
    """
    A, y = measurements(settings.seed)
    ends = np.asarray(problems.each(_ends, jnp.asarray(A), jnp.asarray(y)))
    traces = np.trace(ends, axis1=-2, axis2=-1)
    misfit = np.abs(np.einsum("pknij,pksij->pksn", A, ends) - y[:, :, None]).max((0, 2, 3))
    numbers = []
    with plots.style():
        figure, ax = plt.subplots()
        for kind, (case, name) in enumerate(
            (("with the condition", "commuting"), ("without it", "random"))
        ):
            least = np.array(
                [least_trace(*one) for one in zip(A[:, kind], y[:, kind], strict=True)]
            )
            excess = traces[:, kind] / least[:, None] - 1
            shown = np.median(np.maximum(excess, 1e-16), axis=0)
            ax.loglog(SCALES, shown, "o-", label=f"{name} measurements")
            what = f"{name} measurements, $\\alpha = 10^{{-8}}$: median excess of the norm"
            numbers += [
                measured(what, np.median(excess[:, 0]), "<=", 1e-5, case=case),
                measured(
                    f"{name} measurements: least excess of the norm", excess, ">=", -1e-6, case=case
                ),
                measured(
                    f"{name} measurements: largest residual", misfit[kind], "<=", 1e-6, case=case
                ),
            ]
        ax.set(xlabel=r"scale $\alpha$ of $U$", ylabel="excess of the nuclear norm")
        ax.legend()
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption=(
            "Median excess of the nuclear norm over the least one against the scale of the start: it "
            "vanishes where the measurement matrices commute, and does not for random ones."
        ),
    )


CLAIMS = (nuclear_norm,)
