"""Appendices A.1 and A.2: two layers, theta = u v, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from ddln import theory
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, checked, measured
from ddln.claims.paper._layers import FLOW_ERROR
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal
from ddln.potentials import potential


@claim(id="paper-equation-16", equations=(15, 16, 25))
def closed_form(settings: Settings) -> Evidence:
    r"""Eqs. (15), (16), (25): Two layers as a function of the accumulated gradient.

    For $\theta = u \odot v$ the flow is a function of $\xi = -\int_0^t \nabla\mathcal{L}(\theta(s)) ds$
    alone: a hyperbolic sine.

        \theta = \Psi(\xi) = \frac{|u(0)^{\odot 2} - v(0)^{\odot 2}|}{2} \sinh\Bigl(2 \xi +
        \log\Bigl|\frac{u(0) + v(0)}{u(0) - v(0)}\Bigr|\Bigr)

    Labarrière et al. 2024, equations 15, 16 and 25, along flows of two layers.
    """
    flow = problems.flows(settings, 2)
    assert flow.dual is not None
    width, shift = _width_and_shift(settings)
    theta, xi = np.asarray(flow.theta), np.asarray(flow.dual)
    printed = width[:, None] / 2 * np.sinh(2 * xi + shift[:, None])
    plus, minus = _plus_minus(settings)
    powers = plus[:, None] ** 2 * np.exp(2 * xi) - minus[:, None] ** 2 * np.exp(-2 * xi)
    size = np.abs(theta).max()
    return Evidence(
        (
            measured(
                r"largest error of $\theta(t) = \Psi(\xi(t))$, relative",
                np.abs(printed - theta) / size,
                "<=",
                FLOW_ERROR,
            ),
            measured(
                r"largest error of $\theta(t) = (z_+(0)^2 e^{2\xi} - z_-(0)^2 e^{-2\xi}) / 4$, relative",
                np.abs(powers / 4 - theta) / size,
                "<=",
                FLOW_ERROR,
            ),
        ),
        remark="The logarithm needs $|u(0)| \\neq |v(0)|$ at each coordinate, that is Assumption A.",
    )


def _plus_minus(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """z_+ = u + v and z_- = u - v at the start."""
    u, v = np.moveaxis(np.asarray(problems.networks(settings, 2).layers), 1, 0)
    return u + v, u - v


def _width_and_shift(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """|u^2 - v^2| and log|(u + v) / (u - v)| at the start."""
    plus, minus = _plus_minus(settings)
    return np.abs(plus * minus), np.log(np.abs(plus / minus))


@claim(id="paper-equation-17", equations=(17, 18))
def end_of_flow(settings: Settings) -> Evidence:
    r"""Eqs. (17), (18): Where the flow ends.

    If the flow converges to a solution of $X \theta = y$, it is the one with the smallest $Q$: with $\nabla
    Q = \Psi^{-1}$ the optimality conditions hold.

        \theta_\infty = \operatorname{arg\,min}_{X \theta = y} Q(\theta) \iff X \theta_\infty = y, \quad
        \exists \omega : \nabla Q(\theta_\infty) = X^\top \omega

    Labarrière et al. 2024, equations 17 and 18: the flow at a late time against the minimizer.
    """
    flow, loss = problems.flows(settings, 2), problems.losses(settings)
    network = problems.networks(settings, 2)
    check = problems.each(theory.mirror_optimality, flow, loss)
    late = np.asarray(flow.theta[:, -1])
    width, shift = _width_and_shift(settings)
    # grad Q = Psi^-1, and its distance from the range of X^T.
    dual = (np.arcsinh(2 * late / width) - shift) / 2
    residual = np.einsum("bnd,bd->bn", np.asarray(loss.X), late) - np.asarray(loss.y)
    end = np.asarray(problems.each(_limit, network, loss))
    value, nearby = problems.each(_nearby_values, network, end, loss, problems.keys(settings, "17"))
    size = np.abs(late).max()
    return Evidence(
        (
            checked(check, r"$\nabla Q(\theta(t))$ is in the range of $X^\top$"),
            measured(
                f"largest $|X \\theta - y|$ at $t = {problems.LATE:g}$",
                np.abs(residual),
                "<=",
                1e-5,
            ),
            measured(
                r"there, the largest distance of $\Psi^{-1}(\theta)$ from the range of $X^\top$",
                off_range(loss, dual),
                "<=",
                1e-5,
            ),
            measured(
                r"largest distance to the solution with the smallest $Q$, relative",
                np.abs(end - late) / size,
                "<=",
                1e-5,
            ),
            measured(
                r"smallest $Q$ of other solutions nearby, less that of the minimizer",
                np.asarray(nearby) - np.asarray(value)[:, None],
                ">",
                0,
            ),
        )
    )


def off_range(loss: LeastSquares, dual: np.ndarray) -> np.ndarray:
    """Distance of dual vectors from the range of X^T, relative to their size."""
    found = []
    for X, row in zip(np.asarray(loss.X), dual, strict=True):
        rest = row - X.T @ np.linalg.lstsq(X.T, row, rcond=None)[0]
        found.append(np.linalg.norm(rest) / np.linalg.norm(row))
    return np.asarray(found)


def _limit(network: DeepDiagonal, loss: LeastSquares):
    return limit(network, loss, throw=False).theta


def _nearby_values(network: DeepDiagonal, end, loss: LeastSquares, key):
    """Q at the end, and at eight other solutions of X theta = X end."""
    q = potential(network)
    move = jax.random.normal(key, (8, end.size)) / 10
    move = move - move @ jnp.linalg.pinv(loss.design) @ loss.design
    return q.value(end), jax.vmap(q.value)(end[None] + move)


@claim(id="paper-equation-19", equations=(19, 20, 21))
def entropy(settings: Settings) -> Evidence:
    r"""Eqs. (19) to (21): The entropy of two layers.

    The function $Q$ of Eq. (19) has the gradient $\Psi^{-1}$, so that $\nabla Q(\theta(t)) = \xi(t)$ and
    the flow is its mirror flow.

        Q(\theta) = \frac12 \sum_{i=1}^d \Bigl(2 \theta_i \operatorname{arcsinh} \frac{2 \theta_i}{\Delta_0}
        - \sqrt{4 \theta_i^2 + \Delta_0^2} + \Delta_0\Bigr) - \frac12 \Bigl\langle \log\Bigl|\frac{u(0) +
        v(0)}{u(0) - v(0)}\Bigr|, \theta \Bigr\rangle

    Correction: The factor of the sum is $\frac14$: the printed first term of $\nabla Q$ is twice too large,
    the second one is right, so the minimizer of Eq. (17) changes as well.

    Labarrière et al. 2024, equations 19 to 21: the gradient of Q along flows of two layers.
    """
    flow = problems.flows(settings, 2)
    assert flow.dual is not None
    width, shift = (values[:, None] for values in _width_and_shift(settings))
    theta, xi = np.asarray(flow.theta), np.asarray(flow.dual)

    def slope(factor):
        """By central differences."""

        def q(t):
            bracket = 2 * t * np.arcsinh(2 * t / width) - np.sqrt(4 * t**2 + width**2) + width
            return factor * bracket - shift * t / 2

        step = 1e-5 * np.maximum(width, np.abs(theta))
        return (q(theta + step) - q(theta - step)) / (2 * step)

    size = np.abs(xi).max()
    return Evidence(
        tuple(
            measured(
                r"largest error of $\nabla Q(\theta(t)) = \xi(t)$, relative",
                np.abs(slope(factor) - xi) / size,
                "<=",
                1e-5,
                case=case,
            )
            for case, factor in (("as printed", 0.5), ("corrected", 0.25))
        )
    )


@claim(id="paper-equation-24", equations=(22, 23, 24))
def sum_and_difference(settings: Settings) -> Evidence:
    r"""Eqs. (22) to (24): Sum and difference of two layers.

    $z_\pm = u \pm v$ grow and decay exponentially in $\xi$.

        \dot z_\pm \pm z_\pm \odot \nabla\mathcal{L}(\theta) = 0, \qquad z_+(t) = z_+(0) e^{\xi(t)}, \qquad
        z_-(t) = z_-(0) e^{-\xi(t)}

    Labarrière et al. 2024, equations 22 to 24, along flows of two layers.
    """
    flow = problems.flows(settings, 2)
    assert flow.dual is not None
    xi = np.asarray(flow.dual)
    u, v = np.moveaxis(np.asarray(flow.parameterization.layers), 2, 0)  # pyright: ignore
    numbers = []
    for name, sign, start in zip("+-", (1, -1), _plus_minus(settings), strict=True):
        z = u + sign * v
        error = np.abs(z - start[:, None] * np.exp(sign * xi)) / np.abs(z).max()
        numbers.append(
            measured(f"largest error of $z_{name}(t)$, relative", error, "<=", FLOW_ERROR)
        )
    return Evidence(tuple(numbers))
