"""Section 2.3: how fast the loss decreases."""

import jax
import jax.numpy as jnp
import numpy as np

from ddln import plots, theory
from ddln._types import Array, Float, Scalar
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, checked, measured
from ddln.claims.paper._layers import DEPTHS, FLOW_ERROR, along_flows, checks_of_flows
from ddln.flows import Trajectory
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal
from ddln.potentials import potential
from ddln.problems import figure_4 as figure_4_problem


@claim(id="paper-equation-11", equations=(10, 11))
def metric(settings: Settings) -> Evidence:
    r"""Eqs. (10), (11): The flow of the effective parameter.

    $\theta$ follows the gradient with a diagonal metric $M$, a sum of products of squared layers, which is
    the inverse of the Hessian of $Q$.

        \dot\theta + M \nabla\mathcal{L}(\theta) = 0, \qquad M = \operatorname{diag}\Bigl(\sum_{j=1}^L
        \prod_{k \neq j} (u^k_i)^2\Bigr), \qquad \frac{d}{dt} \nabla Q(\theta) = M^{-1} \dot\theta

    Labarrière et al. 2024, equations 10 and 11, by the chain rule along flows of the layers.
    """
    numbers = []
    for depth in DEPTHS:
        flow, loss = problems.flows(settings, depth), problems.losses(settings)
        velocity, slope, hessian = problems.each(_velocity, flow, loss)
        squares = np.asarray(flow.parameterization.layers) ** 2  # pyright: ignore
        printed = sum(np.delete(squares, j, axis=2).prod(axis=2) for j in range(depth))
        label = f"$L = {depth}$, largest error of "
        error = np.abs(velocity + printed * slope) / np.abs(velocity).max()
        numbers.append(measured(label + r"$\dot\theta = -M \nabla\mathcal{L}$", error, "<=", 1e-12))
        error = np.abs(hessian * printed - 1)
        numbers.append(measured(label + r"$\nabla^2 Q(\theta) = M^{-1}$", error, "<=", 1e-6))
    return Evidence(tuple(numbers))


def _velocity(flow: Trajectory, loss: LeastSquares):
    """theta' by the chain rule from the gradient in the layers, grad L, and the Hessian of Q."""

    def at(layers):
        def value(u):
            return loss(DeepDiagonal(u).effective())

        def effective(u):
            return DeepDiagonal(u).effective()

        return jax.jvp(effective, (layers,), (-jax.grad(value)(layers),))[1]

    q = potential(flow.initial)
    layers = flow.parameterization.layers  # pyright: ignore[reportAttributeAccessIssue]
    slopes = jax.vmap(loss.gradient)(flow.theta)
    return jax.vmap(at)(layers), slopes, jax.vmap(q.hessian_diagonal)(flow.theta)


@claim(id="paper-equation-13", equations=(12, 13))
def metric_lower_bound(settings: Settings) -> Evidence:
    r"""Eqs. (12), (13): The metric stays away from zero.

    Under Assumption A the smallest eigenvalue of $M(t)$ is at least a positive number $\sigma$ of the
    start, for all times.

        \lambda_{\min}(M(t)) \geq \sigma = \min_i \prod_{k \neq k_i} \bigl(u^k_i(0)^2 - u^{k_i}_i(0)^2\bigr)
        > 0, \qquad k_i = \operatorname{arg\,min}_k |u^k_i(0)|

    Labarrière et al. 2024, equations 12 and 13, along flows of the layers.
    """
    numbers = []
    for label, check in checks_of_flows(theory.metric_lower_bound, settings).items():
        # Equal where the smallest layer crosses zero, so within the error of the flow.
        ratio = np.asarray(check.rhs) / np.asarray(check.lhs)
        what = f"{label}, smallest $\\lambda_{{\\min}}(M(t)) / \\sigma$"
        numbers.append(measured(what, ratio, ">=", 1 - FLOW_ERROR))
    sigma = problems.each(theory.sigma, problems.networks(settings, 3))
    return Evidence((*numbers, measured(r"smallest $\sigma$, $L = 3$", sigma, ">", 0)))


@claim(id="paper-theorem-2", equations=(14,))
def pl_rate(settings: Settings) -> Evidence:
    r"""Theorem 2, Eq. (14): Linear convergence under a PL inequality.

    If the loss satisfies a Polyak-Łojasiewicz inequality with $\mu$ and the start Assumption A, the gap of
    the loss decreases at least like $e^{-2 \sigma \mu t}$.

        \mathcal{L}(\theta(t)) - \mathcal{L}^* \leq e^{-2 \sigma \mu t} (\mathcal{L}(\theta(0)) -
        \mathcal{L}^*)

    Labarrière et al. 2024, Theorem 2, equation 14, along flows of the layers.
    """
    return along_flows(theory.pl_rate, settings)


@claim(id="paper-remark-sigma")
def faster_than_plain(settings: Settings) -> Evidence:
    r"""After Theorem 2: Faster than plain gradient flow.

    For a strongly convex loss, if $\sigma > 1$, the flow of the layers can be faster than the gradient flow
    of $\theta$ itself, although its problem is not convex.

        \sigma > 1 \implies e^{-2 \sigma \mu t} < e^{-2 \mu t}

    Labarrière et al. 2024, after Theorem 2: exponents of the last phase, which are exact.
    """
    found = problems.each(_exponents, problems.keys(settings, "sigma"))
    sigma, ratio, small = (np.asarray(values) for values in found)
    return Evidence(
        (
            measured(r"smallest $\sigma$ of the starts", sigma, ">", 1),
            measured(
                r"smallest exponent of the layers / exponent of plain gradient flow, divided by $\sigma$",
                ratio / sigma,
                ">=",
                1,
            ),
        ),
        remark=(
            rf"From a tenth of these layers the smallest ratio is {small.min():.2g}. "
            r"The exponent is that of the linearization at the minimizer: twice the smallest eigenvalue of "
            r"$M^{1/2} X^\top X M^{1/2}$."
        ),
    )


def _exponents(key) -> tuple[Scalar, Scalar, Scalar]:
    """sigma, and the exponents relative to plain gradient flow, from large and from small layers."""
    problem, layers = figure_4_problem(key)
    loss = problem.loss()
    theta = loss.minimizer
    ubar = 1.1 + jnp.abs(layers[0, 1])

    def exponent(metric):
        scaled = loss.design * jnp.sqrt(metric)[None]
        return jnp.linalg.svd(scaled, compute_uv=False)[-1] ** 2

    # One factorization at a time: all three are of one batch.
    starts = [DeepDiagonal.zero_last(ubar, 3), DeepDiagonal.zero_last(ubar, 3, 0.1)]
    metrics = [1 / potential(start).hessian_diagonal(theta) for start in starts]
    large, small, plain = jax.vmap(exponent)(jnp.stack([*metrics, jnp.ones_like(theta)]))
    return theory.sigma(starts[0]), large / plain, small / plain


@claim(id="paper-corollary-1")
def pl_rate_zero_last(settings: Settings) -> Evidence:
    r"""Corollary 1: The rate from one layer at zero.

    From $u^L(0) = 0$ and $u^j(0) = \alpha \bar u$ with $|\bar u_i|^2 \geq \lambda$ the rate of Theorem 2
    has $\sigma = (\alpha^2 \lambda)^{L - 1}$.

        \mathcal{L}(\theta(t)) - \mathcal{L}^* \leq e^{-2 \sigma \mu t} (\mathcal{L}(\theta(0)) -
        \mathcal{L}^*), \qquad \sigma = (\alpha^2 \lambda)^{L-1}

    Labarrière et al. 2024, Corollary 1, along flows of the layers.
    """
    network = problems.each(_zero_last, problems.keys(settings, "zero last"))
    loss = problems.losses(settings)
    flow = problems.finished(problems.each(problems.flow_of_layers, network, loss))
    check = problems.each(theory.pl_rate_zero_last, flow, loss)
    return Evidence((checked(check, r"$L = 3$, $\alpha = 0.8$"),))


def _zero_last(key) -> DeepDiagonal:
    return DeepDiagonal.zero_last(jax.random.normal(key, (problems.DIM,)), 3, 0.8)


@claim(id="paper-remark-depth")
def depth_helps(settings: Settings) -> Evidence:
    r"""After Corollary 1: Depth helps large starts.

    If $\alpha^2 \lambda > 1$, then $\sigma$ increases with the number of layers.

        \alpha^2 \lambda > 1 \implies (\alpha^2 \lambda)^{L} > (\alpha^2 \lambda)^{L-1}

    Labarrière et al. 2024, after Corollary 1: sigma of the layers themselves, depths 2 to 6.
    """
    found = problems.each(_sigmas, problems.keys(settings, "depth"))
    power, large, small = (np.asarray(values) for values in found)
    printed = power[:, None] ** np.arange(1, len(DEPTHS_OF_REMARK) + 1)
    return Evidence(
        (
            measured(
                r"largest error of $\sigma = (\alpha^2 \lambda)^{L-1}$, relative",
                np.abs(large / printed - 1),
                "<=",
                1e-10,
            ),
            measured(
                r"$\alpha^2 \lambda > 1$, smallest $\sigma$ of $L + 1$ layers / of $L$ layers",
                large[:, 1:] / large[:, :-1],
                ">",
                1,
            ),
            measured(
                r"$\alpha^2 \lambda < 1$, largest $\sigma$ of $L + 1$ layers / of $L$ layers",
                small[:, 1:] / small[:, :-1],
                "<",
                1,
            ),
        )
    )


DEPTHS_OF_REMARK = (2, 3, 4, 5, 6)


def _sigmas(key) -> tuple[Scalar, Float[Array, " K"], Float[Array, " K"]]:
    """alpha^2 lambda > 1, and sigma for each depth at that scale and at one with the inverse of it."""
    key_shape, key_scale = jax.random.split(key)
    ubar = 0.1 + jnp.abs(jax.random.normal(key_shape, (problems.DIM,)))
    size = jax.random.uniform(key_scale, minval=1.05, maxval=1.5)
    smallest = jnp.min(ubar)

    def sigmas(alpha):
        return jnp.stack(
            [theory.sigma(DeepDiagonal.zero_last(ubar, L, alpha)) for L in DEPTHS_OF_REMARK]
        )

    return size**2, sigmas(size / smallest), sigmas(1 / (size * smallest))


@claim(id="paper-figure-4")
def figure_4(settings: Settings) -> Evidence:
    r"""Figure 4: Larger starts converge faster.

    For six layers, the first one zero, and the other ones multiplied by 1, 1.4 and 1.8, the loss decreases
    the faster the larger the layers are.

        t_{1.8} < t_{1.4} < t_1, \qquad t_s = \min\{t : \mathcal{L}(\theta(t)) - \mathcal{L}^* \leq \tfrac12
        (\mathcal{L}(\theta(0)) - \mathcal{L}^*)\}

    Labarrière et al. 2024, Figure 4, on fresh random problems.
    """
    found = problems.each(_figure_4_flows, problems.keys(settings, "figure 4"))
    flow, minimum, bounds = found
    problems.finished(flow)
    halves = half_times(flow, np.asarray(minimum)[:, None])
    ax = plots.loss_curves(
        jax.tree.map(lambda leaf: leaf[0], flow),
        float(minimum[0]),
        bounds={"Theorem 2": bounds[0]},
        labels=["scale 1", "scale 1.4", "scale 1.8"],
    )
    ax.set_xscale("symlog", linthresh=1e-3)
    return Evidence(
        (
            measured("largest $t_{1.4} / t_1$", halves[:, 1] / halves[:, 0], "<", 1),
            measured("largest $t_{1.8} / t_{1.4}$", halves[:, 2] / halves[:, 1], "<", 1),
        ),
        figure=ax.get_figure(root=True),
        caption=(
            "The gap of the loss over time, of three networks with six layers on one random "
            "problem, with the bounds "
            "of Theorem 2: the larger the start, the faster the loss decreases."
        ),
    )


FIGURE_4_TIMES = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 128)])
# Tolerance of flows whose times are compared.
ROUGH = 1e-6


def _figure_4_flows(key):
    """The three flows, the minimum of the loss, and the bounds of Theorem 2."""
    problem, layers = figure_4_problem(key)
    loss = problem.loss(scale=1.0)

    def flow(rows):
        ts = jnp.asarray(FIGURE_4_TIMES)
        one = problems.reduced_flow(DeepDiagonal(rows), loss, ts, ROUGH)
        return one, theory.pl_rate(one, loss).rhs

    flows, bounds = jax.vmap(flow)(layers)
    return flows, loss.minimum, bounds


def half_times(flow: Trajectory, minimum: np.ndarray) -> np.ndarray:
    """Time at which the gap of the loss is half of that at the start, for each flow of a batch."""
    gaps = np.asarray(flow.loss) - minimum[..., None]
    share = gaps / gaps[..., :1]
    times = np.broadcast_to(np.asarray(flow.ts), share.shape)
    below = np.argmax(share <= 0.5, axis=-1)[..., None]
    t0, t1 = (np.take_along_axis(times, below - back, -1)[..., 0] for back in (1, 0))
    s0, s1 = (np.take_along_axis(share, below - back, -1)[..., 0] for back in (1, 0))
    reached = below[..., 0] > 0
    return np.where(reached, t0 + (t1 - t0) * (s0 - 0.5) / (s0 - s1), np.inf)


@claim(id="paper-small-starts")
def small_starts(settings: Settings) -> Evidence:
    r"""Sections 1 and 2.3: Small starts are slow.

    Very small initializations lead to slow training.

        t_\alpha = \min\{t : \mathcal{L}(\theta(t)) - \mathcal{L}^* \leq \tfrac12 (\mathcal{L}(\theta(0)) -
        \mathcal{L}^*)\} \to \infty \quad (\alpha \to 0)

    Labarrière et al. 2024, sections 1 and 2.3: times to half of the loss from smaller starts.
    """
    loss = problems.losses(settings)
    network = problems.each(_zero_last, problems.keys(settings, "zero last"))
    ts = problems.log_times()
    flows = [
        problems.reduced_flows(
            jax.tree.map(lambda leaf, s=scale: s * leaf, network), loss, ts, ROUGH
        )
        for scale in SCALES
    ]
    # X theta = y is solvable, so the minimum is zero.
    halves = np.stack([half_times(flow, np.zeros(settings.problems)) for flow in flows])
    shown = [jax.tree.map(lambda leaf: leaf[0], flow) for flow in flows]
    ax = plots.loss_curves(shown, 0.0, labels=[f"scale {scale:g}" for scale in SCALES])
    ax.set_xscale("symlog", linthresh=float(ts[1]))
    return Evidence(
        tuple(
            measured(
                f"smallest $t_{{\\alpha}}$ at scale {scale:g} / at scale {10 * scale:g}",
                later / earlier,
                ">=",
                5,
            )
            for scale, earlier, later in zip(SCALES[1:], halves, halves[1:], strict=False)
        ),
        remark=(
            r"For $L \geq 3$ the time grows like $\alpha^{-(L-2)}$, here tenfold for a tenth of "
            r"the scale; for $L = 2$ "
            r"like $\log(1/\alpha)$."
        ),
        figure=ax.get_figure(root=True),
        caption=(
            "The loss over time from one start with three layers at three scales, on a random "
            "problem: each tenth of the scale waits about ten times longer before the loss decreases. "
            "A curve ends before the first saved time at which the loss is zero to rounding."
        ),
    )


SCALES = (1.0, 0.1, 0.01)
