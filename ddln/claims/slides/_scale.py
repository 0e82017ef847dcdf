"""Slides "Diagonal Linear Networks" and "Deep Diagonal Linear Networks": the scale of the initialization."""

from functools import cache

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, checked, measured
from ddln.claims.slides._flows import data, end_of_flow, nearest_solution, relative
from ddln.limits import excess_l1, l1_weights, minimum_l1
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal
from ddln.potentials import potential
from ddln.theory import mirror_identity

DEPTHS = (2, 3, 4)
# Scales of all layers; the first is small, the last large.
SCALES = {2: np.geomspace(1e-12, 1e2, 29), 3: np.geomspace(1e-3, 1e2, 11)}
SCALES[4] = SCALES[3]


def _zero_last(depth: int) -> DeepDiagonal:
    """The start of Yun et al.: the last layer zero, all others one."""
    return DeepDiagonal.zero_last(jnp.ones(problems.DIM), depth)


@cache
def ends(settings: Settings, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the flows from the start of Yun et al. and from random layers, at all scales.

    Each has the shape [problem, scale, coordinate].
    """
    networks, losses = problems.networks(settings, depth), problems.losses(settings)
    found = np.asarray(problems.each(_ends, networks, losses))
    return found[:, 0], found[:, 1]


def _ends(network: DeepDiagonal, loss: LeastSquares):
    depth = network.layers.shape[0]
    scales = jnp.asarray(SCALES[depth])[None, :, None, None]
    layers = scales * jnp.stack([_zero_last(depth).layers, network.layers])[:, None]
    lanes = layers.reshape(-1, depth, problems.DIM)
    theta = jax.vmap(lambda one: end_of_flow(DeepDiagonal(one), loss))(lanes)
    return theta.reshape(2, -1, problems.DIM)


@cache
def excess(settings: Settings, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The excess of the l1 norm over the least one, of both `ends`, shape [problem, scale]."""
    X, y = data(problems.losses(settings))
    least = np.array([np.abs(minimum_l1(*one)).sum() for one in zip(X, y, strict=True)])
    first, second = (np.abs(theta).sum(2) for theta in ends(settings, depth))
    return first / least[:, None] - 1, second / least[:, None] - 1


def _quantiles(ax, scales, values, **look):
    """The median over the problems, and the band of the middle 80 %."""
    low, median, high = np.quantile(np.maximum(values, 1e-16), [0.1, 0.5, 0.9], axis=0)
    (line,) = ax.loglog(scales, median, **look)
    ax.fill_between(scales, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


@claim(id="slides-small-scale")
def small_scale(settings: Settings) -> Evidence:
    r"""Diagonal Linear Networks: Small initialization of two layers: sparsity.

    For small initialization $D_R(w, w_0)$ behaves as $\|w\|_1$, which encourages sparsity.

        D_R(w, w_0) \sim \|w\|_1

    Slide "Diagonal Linear Networks": the divergence, and the ends against a linear program.
    """
    networks, losses = problems.networks(settings, 2), problems.losses(settings)
    points = np.asarray(problems.each(end_of_flow, networks, losses))
    ratios = np.asarray(problems.each(_growth, networks, points))
    found = excess(settings, 2)[1]
    scales = SCALES[2]
    with plots.style():
        figure, ax = plt.subplots()
        _quantiles(ax, scales, found)
        ax.set(xlabel=r"scale $\alpha$ of the layers", ylabel=r"excess of $\|w_\infty\|_1$")
    return Evidence(
        (
            measured(
                r"largest $|D_R(w, w_0) / (2 \|w\|_1 \log \frac{1}{\alpha}) - 1|$ at $\alpha = 10^{-100}$",
                np.abs(ratios - 1),
                "<=",
                0.05,
            ),
            measured(
                r"median excess of $\|w_\infty\|_1$ over the least of all solutions, $\alpha = 10^{-12}$",
                np.median(found[:, 0]),
                "<=",
                0.01,
            ),
            measured("largest excess there", found[:, 0], "<=", 0.1),
            measured(
                "the same median for the scale 1: what the small scale improves on",
                np.median(found[:, -5]),
                ">=",
                0.01,
            ),
        ),
        remark=(
            r"The approach is a power of $\alpha$ whose exponent depends on the data, and can be small. "
            r"The sign $\sim$ hides the factor $\log \frac{1}{\alpha}$."
        ),
        figure=figure,
        caption=(
            r"The excess of the $\ell_1$ norm at the end of the flow from $\alpha$ times random layers, "
            "relative to the least norm: median and the middle 80 % of the problems. It falls with the "
            "scale, at a rate that the data set."
        ),
    )


def _growth(network: DeepDiagonal, w):
    """D_R(w, w_0) over 2 log(1 / scale) |w|_1, for theta = u v / 2 and layers 1e-100 times random."""
    q = potential(DeepDiagonal(1e-100 * network.layers, 0.5))
    return q.value(w) / (2 * np.log(1e100) * jnp.sum(jnp.abs(w)))


@claim(id="slides-large-scale")
def large_scale(settings: Settings) -> Evidence:
    r"""Diagonal Linear Networks: Large initialization of two layers: least squares.

    For large initialization $D_R(w, w_0)$ behaves as half the square of the distance from $w_0$.

        D_R(w, w_0) \sim \frac{1}{2} \|w - w_0\|_2^2

    Condition: $w_0 = 0$ and $|u_0|^2 + |v_0|^2$ the same in all coordinates. With other sizes the norm is
    weighted; with $w_0 \neq 0$ the start moves away as the scale grows, and the flow ends at no nearest
    solution.

    Slide "Diagonal Linear Networks": the ends against the nearest solutions.
    """
    losses = problems.losses(settings)
    networks = np.asarray(problems.networks(settings, 2).layers)
    X, y = data(losses)
    scales = SCALES[2][-9:]
    starts = scales[None, :, None] ** 2 * np.prod(networks, axis=1)[:, None]
    cases = (("with the condition", 0 * starts), ("without it", starts))
    names = (r"$u_0 = \alpha \mathbf{1}$, $v_0 = 0$", r"$u_0$, $v_0$ random, times $\alpha$")
    numbers = []
    with plots.style():
        figure, ax = plt.subplots()
        for (case, start), name, found in zip(cases, names, ends(settings, 2), strict=True):
            distance = np.stack(
                [
                    _from_nearest(X, y, start[:, i], found[:, i - len(scales)])
                    for i in range(len(scales))
                ],
                axis=1,
            )
            _quantiles(ax, scales, distance, label=name)
            numbers.append(
                measured(
                    f"{name}: median distance of the end to the nearest solution, over that of the "
                    r"start, $\alpha = 100$",
                    np.median(distance[:, -1]),
                    "<=",
                    1e-4,
                    case=case,
                )
            )
        ax.set(xlabel=r"scale $\alpha$", ylabel="distance to the nearest solution")
        ax.legend()
    points = np.asarray(ends(settings, 2)[0])[:, -1]
    ratio = problems.each(_curvature, points)
    numbers.append(
        measured(
            r"$u_0 = 100 \cdot \mathbf{1}$, $v_0 = 0$: largest $|D_R(w, w_0) / \frac{1}{2} |w - w_0|^2 "
            r"- 1|$, up to the constant $4 / \alpha^2$",
            np.abs(np.asarray(ratio) - 1),
            "<=",
            1e-4,
            case="with the condition",
        )
    )
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption=(
            "The distance between the end of the flow and the solution nearest to its start, relative to "
            "the way from the start to that solution. From equal layers with a zero one it vanishes as the "
            "scale grows; from random layers it does not. Median and the middle 80 % of the problems."
        ),
    )


def _from_nearest(X, y, start, end):
    nearest = nearest_solution(X, y, start)
    return relative(end - nearest, nearest - start)


def _curvature(w):
    q = potential(DeepDiagonal(100 * _zero_last(2).layers, 0.5))
    return q.value(w) / (4 / 100**2 * jnp.sum(jnp.square(w)) / 2)


@claim(id="slides-deep-mirror-flow")
def deep_mirror_flow(settings: Settings) -> Evidence:
    r"""Deep Diagonal Linear Networks: The flow of deep diagonal networks is a mirror flow.

    Under mild initialization assumptions gradient flow in $\theta$ is mirror flow in $w = h(\theta)$.

        h(\theta) = \bigcirc_{l=1}^{L} u^{(l)}, \qquad \frac{d}{dt} \nabla R(w(t)) + \nabla\mathcal{L}(w(t))
        = 0

    Slide "Deep Diagonal Linear Networks": three random layers, against the explicit potential.
    """
    losses = problems.losses(settings)
    flows = problems.flows(settings, 3)
    check = problems.each(mirror_identity, flows, losses)
    X, y = data(losses)
    found = [theta[:, -6] for theta in (ends(settings, 3)[1], ends(settings, 4)[1])]
    slopes = [
        np.asarray(problems.each(_slope, problems.networks(settings, depth), theta))
        for depth, theta in zip((3, 4), found, strict=True)
    ]
    row_space = np.linalg.pinv(X) @ X
    numbers = [checked(check, "$L = 3$, along flows of the layers")]
    for depth, theta, slope in zip((3, 4), found, slopes, strict=True):
        outside = slope - np.einsum("pij,pj->pi", row_space, slope)
        misfit = np.einsum("pni,pi->pn", X, theta) - y
        numbers.append(
            measured(
                f"$L = {depth}$: part of $\\nabla R(w_\\infty)$ outside of the range of $X^\\top$ and "
                "$|Xw - y|$, relative, the larger",
                np.maximum(relative(outside, slope), relative(misfit, y)),
                "<=",
                1e-6,
            )
        )
    return Evidence(
        tuple(numbers),
        remark="Random layers meet the assumption, that one layer is the smallest, almost surely.",
    )


def _slope(network: DeepDiagonal, w):
    return potential(DeepDiagonal(SCALES[3][-6] * network.layers)).mirror_map(w)


@claim(id="slides-deep-small-scale")
def deep_small_scale(settings: Settings) -> Evidence:
    r"""Deep Diagonal Linear Networks: Small initialization of deep networks: sparsity.

    For some structure of initialization a small one has an $\ell_1$ bias.

        u^{(L)}(0) = 0, \; u^{(l)}(0) = \alpha \bar u, \; \alpha \to 0: \quad w_\infty \to \arg\min \{
        \|w\|_1 : Xw = y \}

    Condition: All $|\bar u_i|$ equal. For other starts with $L \geq 3$ the limit minimizes a norm $\sum_i
    W_{+,i} w_i^+ + W_{-,i} w_i^-$ with weights that the start sets.

    Slide "Deep Diagonal Linear Networks": the ends for L = 3, 4 against linear programs.
    """
    losses = problems.losses(settings)
    X, y = data(losses)
    numbers = []
    with plots.style():
        figure, ax = plt.subplots()
        for depth in (3, 4):
            equal, random = excess(settings, depth)
            for case, found, what, line in (
                ("with the condition", equal, r"$\bar u = \mathbf{1}$", "-"),
                ("without it", random, "random layers", "--"),
            ):
                color = f"C{depth - 3}"
                _quantiles(
                    ax, SCALES[depth], found, color=color, ls=line, label=f"$L = {depth}$, {what}"
                )
                numbers.append(
                    measured(
                        f"$L = {depth}$, {what}: median excess of $\\|w_\\infty\\|_1$ at "
                        r"$\alpha = 10^{-3}$",
                        np.median(found[:, 0]),
                        "<=",
                        1e-5,
                        case=case,
                    )
                )
            weights = np.asarray(problems.each(l1_weights, problems.networks(settings, depth)))
            end = ends(settings, depth)[1][:, 0]
            weighted = [float(excess_l1(*one)) for one in zip(end, X, y, weights, strict=True)]
            numbers.append(
                measured(
                    f"$L = {depth}$, random layers: median excess of the norm with weights $W$",
                    np.median(weighted),
                    "<=",
                    1e-5,
                    case="with the condition",
                )
            )
        ax.set(xlabel=r"scale $\alpha$", ylabel=r"excess of $\|w_\infty\|_1$")
        ax.legend()
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption=(
            r"The excess of the $\ell_1$ norm at the end over the least one, against the scale. It vanishes "
            "with the scale if all layers but a zero one are equal in all coordinates, and not from random "
            "layers. Median and the middle 80 % of the problems."
        ),
    )


@claim(id="slides-depth")
def depth_sparsity(settings: Settings) -> Evidence:
    r"""Deep Diagonal Linear Networks: More layers, stronger sparsity.

    More layers have a stronger sparsity.

        \|w_\infty^{L+1}\|_1 < \|w_\infty^{L}\|_1 \quad \text{from } u^{(L)} = 0, \; u^{(l)} = \alpha
        \mathbf{1}

    Condition: A small scale. For large scales it is the other way round: a deeper network is nearer to the
    $\ell_2$ limit as well.

    Slide "Deep Diagonal Linear Networks": the excess for L = 2, 3, 4 at the same scales.
    """
    found = {depth: excess(settings, depth)[0] for depth in DEPTHS}
    numbers = []
    for case, scale in (("with the condition", 0.1), ("without it", 10**0.5)):
        for depth in DEPTHS[:-1]:
            pair = [found[k][:, np.argmin(np.abs(SCALES[k] - scale))] for k in (depth, depth + 1)]
            numbers.append(
                measured(
                    rf"median relative change of the excess from $L = {depth}$ to $L = {depth + 1}$, "
                    rf"$\alpha = {scale:.2g}$",
                    np.median(pair[1] / pair[0] - 1),
                    "<",
                    0.0,
                    case=case,
                )
            )
    with plots.style():
        figure, ax = plt.subplots()
        for depth in DEPTHS:
            shown = slice(-11, None)
            _quantiles(ax, SCALES[depth][shown], found[depth][:, shown], label=f"$L = {depth}$")
        ax.set(xlabel=r"scale $\alpha$", ylabel=r"excess of $\|w_\infty\|_1$", ylim=(1e-13, 10))
        ax.legend()
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption=(
            r"The excess of the $\ell_1$ norm over the least one for two, three and four layers. Below a "
            "scale of about one the deeper network is sparser; above, all of them tend to the solution of "
            "least squares, the deeper ones faster. Median and the middle 80 % of the problems."
        ),
    )
