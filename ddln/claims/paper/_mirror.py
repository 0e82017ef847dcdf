"""Section 2.2: the flow of theta is a mirror flow."""

import jax
import jax.numpy as jnp
import numpy as np

from ddln import theory
from ddln._types import Array, Float, Scalar, Theta
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, checked, measured
from ddln.claims.paper._layers import along_flows, sorted_layers
from ddln.flows import Trajectory
from ddln.limits import limit, minimum_l1, minimum_l2
from ddln.losses import AbstractLoss, LeastSquares
from ddln.parameterizations import DeepDiagonal
from ddln.potentials import potential


@claim(id="paper-theorem-1")
def mirror_flow(settings: Settings) -> Evidence:
    r"""Theorem 1: The flow is a mirror flow.

    Under Assumption A there is a convex Legendre function $Q$ on $\mathbb{R}^d$ whose mirror flow is the
    flow of $\theta$.

        \frac{d}{dt} \nabla Q(\theta(t)) + \nabla\mathcal{L}(\theta(t)) = 0

    Labarrière et al. 2024, Theorem 1: grad Q along flows of the layers, against their dual.
    """
    found = along_flows(theory.mirror_identity, settings)
    network, flow = problems.networks(settings, 3), problems.flows(settings, 3)
    hessian, back, outside = problems.each(_legendre, network, flow.theta, flow.dual)
    size = np.abs(flow.theta).max()
    return Evidence(
        (
            *found.numbers,
            measured("smallest second derivative of $Q$ along the flows", hessian, ">", 0),
            measured(
                r"largest error of $(\nabla Q)^{-1}(\xi(t))$, relative",
                np.abs(back - flow.theta) / size,
                "<=",
                1e-6,
            ),
            measured(
                r"points of size $10^6$ outside of the domain of $\nabla Q$", outside, "<=", 0
            ),
        )
    )


def _legendre(network: DeepDiagonal, theta: Float[Array, "T d"], dual: Float[Array, "T d"]):
    q = potential(network)
    return (
        jax.vmap(q.hessian_diagonal)(theta),
        jax.vmap(q.inverse_mirror_map)(dual),
        jnp.sum(~q.in_domain(1e6 * jnp.sign(theta[-1])) | ~q.in_domain(-1e6 * jnp.sign(theta[-1]))),
    )


@claim(id="paper-equation-8", equations=(8,))
def bregman_rate(settings: Settings) -> Evidence:
    r"""Theorem 1, Eq. (8): The loss decreases like 1/t.

    For a differentiable loss with minimizer $\theta^*$, the gap of the loss is at most $D_Q(\theta^*,
    \theta_0) / t$.

        \mathcal{L}(\theta(t)) - \mathcal{L}^* \leq \frac{D_Q(\theta^*, \theta_0)}{t}

    Condition: $\mathcal{L}$ is convex, which the proof uses and the theorem does not say. With two wells at
    each coordinate a flow that starts in the higher one stays there, while the bound tends to 0.

    Labarrière et al. 2024, Theorem 1, equation 8, for convex losses and for one that is not.
    """
    case = "with the condition"
    found = along_flows(_rate_to_minimizer, settings, case=case)
    sharpest = problems.each(_rate_to_end, problems.flows(settings, 3), problems.losses(settings))
    excess = problems.each(_two_wells, problems.keys(settings, "two wells"))
    return Evidence(
        (
            *found.numbers,
            checked(sharpest, r"$L = 3$, $\theta^*$ the end of the flow", case=case),
            measured(
                r"two wells: largest $t (\mathcal{L} - \mathcal{L}^*) / D_Q(\theta^*, \theta_0)$",
                excess,
                "<=",
                1,
                case="without it",
            ),
        )
    )


def _rate_to_minimizer(flow: Trajectory, loss: LeastSquares):
    return theory.bregman_rate(flow, loss, loss.minimizer)


def _rate_to_end(flow: Trajectory, loss: LeastSquares):
    return theory.bregman_rate(flow, loss, flow.theta[-1])


class TwoWells(AbstractLoss):
    """sum (theta^2 - 1)^2 / 4 + tilt theta: the lower well is at a negative theta."""

    tilt: Theta

    def __call__(self, theta: Theta) -> Scalar:
        return jnp.sum(jnp.square(jnp.square(theta) - 1) / 4 + self.tilt * theta)


def _two_wells(key) -> Scalar:
    """t (L - L*) / D_Q at t = 1000 of the flow that starts at the bottom of the higher well."""
    key_tilt, key_layers = jax.random.split(key)
    tilt = jax.random.uniform(key_tilt, (problems.DIM,), minval=0.05, maxval=0.2)
    loss = TwoWells(tilt)

    def newton(theta, _):
        return theta - (theta**3 - theta + tilt[None]) / (3 * theta**2 - 1), None

    guesses = jnp.stack([jnp.full_like(tilt, 1.0), jnp.full_like(tilt, -1.2)])
    higher, lower = jax.lax.scan(newton, guesses, length=12)[0]
    layers = jax.random.uniform(key_layers, (3, problems.DIM), minval=0.7, maxval=1.3)
    # theta_0 is stationary, so the flow does not move.
    start = layers.at[0].set(higher / (layers[1] * layers[2]))
    gap = loss(higher) - loss(lower)
    return 1e3 * gap / potential(DeepDiagonal(start)).value(lower)


@claim(id="paper-monotone")
def monotone(settings: Settings) -> Evidence:
    r"""After Theorem 1: The loss does not increase.

    $\mathcal{L}(\theta(t))$ does not increase along the flow.

        \frac{d}{dt} \mathcal{L}(\theta(t)) = -\langle \nabla^2 Q(\theta) \dot\theta, \dot\theta \rangle
        \leq 0

    Labarrière et al. 2024, after Theorem 1, and the first display of the proof of equation 8.
    """
    return along_flows(theory.monotone_loss, settings)


@claim(id="paper-entropy-at-the-ends")
def entropy_at_the_ends(settings: Settings) -> Evidence:
    r"""After Theorem 1: Between l1 and l2.

    From $u^L(0) = 0$ and $u^j(0) = \alpha \bar u$ the flow of least squares ends where a distance is
    smallest that behaves like the $\ell_1$ norm as $\alpha^L \to 0$ and like the $\ell_2$ norm as $\alpha^L
    \to \infty$.

        \theta_\infty(\alpha) \to \operatorname{arg\,min}_{X\theta = y} |\theta|_1 \ (\alpha \to 0), \qquad
        \theta_\infty(\alpha) \to \operatorname{arg\,min}_{X\theta = y} |\theta|_2 \ (\alpha \to \infty)

    Condition: All $|\bar u_i|$ are equal. Else, for $L \geq 3$, the norms are weighted: the small start
    minimizes $\sum_i |\bar u_i|^{2 - L} |\theta_i|$, the large one $\sum_i |\bar u_i|^{2 - 2L} \theta_i^2$.

    Labarrière et al. 2024, after Theorem 1, on Corollary 5 of Yun et al. 2021, for three layers.
    """
    loss = problems.losses(settings)
    ubar = problems.each(_shape, problems.keys(settings, "shapes"))
    numbers, residuals = [], []
    for case, start in (("with the condition", np.sign(ubar)), ("without it", ubar)):
        for alpha in (SMALL, LARGE):
            end = problems.each(_end, jnp.asarray(start), jnp.full(len(start), alpha), loss)
            residuals.append(end.residual)
            plain = _excess(loss, np.asarray(end.theta), np.ones_like(ubar), alpha)
            name = r"\ell_1" if alpha == SMALL else r"\ell_2"
            label = (
                f"$\\alpha = {alpha:g}$, largest excess over the smallest ${name}$ norm, relative"
            )
            numbers.append(measured(label, plain, "<=", 1e-3, case=case))
            if case == "without it":
                power = -1 if alpha == SMALL else -4
                weighted = _excess(loss, np.asarray(end.theta), np.abs(ubar) ** power, alpha)
                label = f"$\\alpha = {alpha:g}$, the same for the weighted norm of the condition"
                numbers.append(measured(label, weighted, "<=", 1e-3, case="with the condition"))
    numbers.append(
        measured(
            r"largest $|X \theta_\infty - y|$, relative: the end is a minimizer",
            residuals,
            "<=",
            1e-8,
            case="with the condition",
        )
    )
    return Evidence(tuple(numbers))


SMALL, LARGE = 0.01, 30.0


def _shape(key) -> Float[Array, " d"]:
    """Shapes of the layers whose sizes differ by up to 4."""
    key_size, key_sign = jax.random.split(key)
    size = jax.random.uniform(key_size, (problems.DIM,), minval=0.5, maxval=2.0)
    return size * jax.random.rademacher(key_sign, size.shape, size.dtype)


def _end(ubar: Float[Array, " d"], alpha: Scalar, loss: LeastSquares):
    return limit(DeepDiagonal.zero_last(ubar, 3, alpha), loss, throw=False)


def _excess(loss: LeastSquares, theta: np.ndarray, weights: np.ndarray, alpha: float) -> list:
    """The excess of the weighted l1 norm, or of the weighted squared l2 norm."""
    found = []
    for X, y, end, weight in zip(
        np.asarray(loss.X), np.asarray(loss.y), theta, weights, strict=True
    ):
        if alpha == SMALL:
            least = minimum_l1(X, y, weight)
            found.append(weight @ np.abs(end) / (weight @ np.abs(least)) - 1)
        else:
            root = np.sqrt(weight)
            least = minimum_l2(X / root, y)
            found.append(np.linalg.norm(root * end) / np.linalg.norm(least) - 1)
    return found


@claim(id="paper-explicit-entropy")
def explicit_entropy(settings: Settings) -> Evidence:
    r"""After Theorem 1; Section 3: The entropy is explicit.

    Whether the entropy $Q$ can be written explicitly for starts with Assumption A is left open. It can: one
    integral per coordinate, of the reciprocal of the speed of the smallest layer.

        Q(\theta) = \sum_i \theta_i \xi_i - \tfrac12 \bigl(v_i^2 - v_i(0)^2\bigr), \qquad \xi_i =
        \int_{v_i(0)}^{v_i} \frac{dr}{p_i(r)}, \qquad p_i(r) = s_i \prod_{j \neq 1} \sqrt{r^2 + \Delta_{ij}}

    Labarrière et al. 2024, section 3, an open question: by a quadrature of its own.
    """
    flow, network = problems.flows(settings, 3), problems.networks(settings, 3)
    assert flow.dual is not None
    start, smallest, _ = sorted_layers(flow)
    theta, dual = np.asarray(flow.theta[:, -1]), np.asarray(flow.dual[:, -1])
    v, v0 = smallest[:, -1], start[:, 0]
    xi = _integral(start, v)
    printed = np.sum(theta * xi - (v**2 - v0**2) / 2, axis=1)
    value = problems.each(_value, network, theta)
    # One coordinate away from the start at a time, where Q is that of the coordinate alone, and steps
    # in units of the theta at which its smallest layer is as large as the gap.
    gaps = start[:, 1:] ** 2 - start[:, :1] ** 2
    step = 1e-3 * np.sqrt(gaps[:, 0] * gaps.prod(axis=1))
    origin = np.repeat(start.prod(axis=1)[:, None], problems.DIM, axis=1)
    diagonal = np.arange(problems.DIM)

    def moved(sign):
        points = origin.copy()
        points[:, diagonal, diagonal] = theta + sign * step
        return problems.each(_values, network, jnp.asarray(points))

    slope = (moved(1) - moved(-1)) / (2 * step)
    size = np.abs(dual).max()
    return Evidence(
        (
            measured(
                r"largest error of the integral as $\xi$", np.abs(xi - dual) / size, "<=", 1e-6
            ),
            measured(
                "largest error of $Q$ in the package, relative",
                np.abs(value / printed - 1),
                "<=",
                1e-6,
            ),
            measured(
                r"largest difference of $\xi$ to central differences of $Q$",
                np.abs(slope - dual) / size,
                "<=",
                1e-5,
            ),
        )
    )


def _integral(start: np.ndarray, v: np.ndarray) -> np.ndarray:
    """int dr / p(r) from the start of the smallest layer to v, r = sqrt(gap) sinh(s), Gauss-Legendre."""
    gaps = start[:, 1:] ** 2 - start[:, :1] ** 2
    root = np.sqrt(gaps[:, 0])
    nodes, weights = np.polynomial.legendre.leggauss(200)
    low, high = np.arcsinh(start[:, 0] / root), np.arcsinh(v / root)
    s = (low + high)[..., None] / 2 + (high - low)[..., None] / 2 * nodes
    rest = np.sqrt((root[..., None] * np.sinh(s))[:, None] ** 2 + gaps[:, 1:, :, None]).prod(axis=1)
    sign = np.sign(start[:, 1:].prod(axis=1))
    return sign * (high - low) / 2 * np.sum(weights / rest, axis=-1)


def _value(network: DeepDiagonal, theta: Theta) -> Scalar:
    return potential(network).value(theta)


def _values(network: DeepDiagonal, points: Float[Array, "K d"]) -> Float[Array, " K"]:
    return jax.vmap(potential(network).value)(points)
