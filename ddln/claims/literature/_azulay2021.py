"""Azulay et al. 2021: the shape of the start beside its scale."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared, measured
from ddln.claims._problems import FORWARD
from ddln.flows import gradient_flow
from ddln.limits import limit, minimum_l1
from ddln.losses import LeastSquares
from ddln.parameterizations import FourVector

SHAPES = np.array([0.0, 0.5, 0.7, 0.9, 0.99])
SCALES = np.geomspace(1e-6, 10.0, 8)
SAMPLES, DIM, SPARSITY = 100, 1000, 5


def _end(X, y, scale, shape):
    start = FourVector.zero(X.shape[1], scale, shape)
    return limit(start, LeastSquares(X, y), throw=False).theta


def _grid(X, y, scales, shapes):
    over_shapes = jax.vmap(_end, (None, None, None, 0))
    return jax.vmap(over_shapes, (None, None, 0, None))(X, y, scales, shapes)


@claim(id="azulay2021-equivalence")
def equivalence(settings: Settings) -> Evidence:
    r"""As summarized: Shape and scale enter through one number.

    From $w_+ = w_-$ and $v_+ = v_-$ the end depends on the sum of their squares alone, so that a shape is
    equivalent to a larger scale.

        w^2 + v^2 = 2 \alpha \frac{1 + s^2}{1 - s^2}, \qquad \alpha = w v, \quad s = \frac{|w - v|}{w + v}

    Fixture: $n = 6$, $d = 10$ problems; shapes 0.5, 0.7, 0.9, 0.99 with the scale that keeps the sum of the
    shape 0 at 0.3.

    The ends of starts of different shapes with the same sum of squares.
    """
    rng = np.random.default_rng(settings.seed)
    X, y = rng.normal(size=(6, 10)), rng.normal(size=6)
    product = 0.3 * (1 - SHAPES**2) / (1 + SHAPES**2)
    ends = []
    for alpha, shape in zip(product, SHAPES, strict=True):
        # w v = alpha and |w - v| / (w + v) = shape.
        half = np.sqrt(alpha / (1 - shape**2))
        w, v = (jnp.full(10, half * (1 + sign * shape)) for sign in (1, -1))
        ends.append(np.asarray(_limit_of_four(w, v, X, y)))
    late = np.asarray(_late(w, v, X, y))
    return Evidence(
        (
            compared("entry of the end, against shape 0", ends[1:], ends[0], 1e-9),
            compared(
                "entry at $t = 300$ of the flow of all four vectors, shape 0.99",
                late,
                ends[0],
                1e-5,
            ),
        )
    )


def _limit_of_four(w, v, X, y):
    return limit(FourVector(w, v, w, v), LeastSquares(X, y)).theta


def _late(w, v, X, y):
    start = FourVector(w, v, w, v)
    flow = gradient_flow(
        start, LeastSquares(X, y), 300.0, coordinates="full", rtol=1e-8, adjoint=FORWARD
    )
    return flow.theta[-1]


@claim(id="azulay2021-sparse-regression")
def sparse_regression(settings: Settings) -> Evidence:
    r"""Experiment: Shapes near one are in the kernel regime.

    At equal scale the excess of the l1 norm grows with the shape of the start.

        s_1 < s_2 \;\Rightarrow\; \|\theta_\infty(\alpha, s_1)\|_1 < \|\theta_\infty(\alpha, s_2)\|_1

    Fixture: $d = 1000$, $N = 100$, five ones, standard normal inputs without noise; shapes 0, 0.5, 0.7,
    0.9, 0.99.

    Cost: Up to $10^7$ epochs of training a point.

    As summarized: the ends at eight scales, by convex problems.
    """
    key = problems.keys(settings, "azulay")[0]
    X = jax.random.normal(key, (SAMPLES, DIM))
    truth = jnp.where(jnp.arange(DIM) < SPARSITY, 1.0, 0.0)
    y = X @ truth
    ends = np.asarray(jax.jit(_grid)(X, y, jnp.asarray(SCALES), jnp.asarray(SHAPES)))
    norms = np.abs(ends).sum(2)
    least = np.abs(minimum_l1(np.asarray(X), np.asarray(y))).sum()
    with plots.style():
        figure, ax = plt.subplots()
        for shape, row in zip(SHAPES, norms.T, strict=True):
            ax.loglog(
                SCALES, np.maximum(row / least - 1, 1e-12), "o-", ms=3, label=f"$s = {shape:g}$"
            )
        ax.set(xlabel=r"scale $\alpha$", ylabel=r"excess of $\ell_1$")
        ax.legend()
    largest = norms[-1] / least - 1
    return Evidence(
        (
            compared(r"$\|\theta\|_1$ at the smallest scale, shape 0", norms[0, 0], SPARSITY, 1e-3),
            measured(
                "smallest increase of the norm with the shape", np.diff(norms, axis=1), ">=", -1e-6
            ),
            measured("excess at the largest scale, shape 0.99", largest[-1], ">=", 1.0),
        ),
        figure=figure,
        caption=(
            "Excess of the l1 norm against the scale for five shapes of the start: the nearer the shape is "
            "to one, the smaller must the scale be."
        ),
    )


CLAIMS = (equivalence, sparse_regression)
