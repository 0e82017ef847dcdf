"""Slide "Gradient Flow vs Mirror flow", and where both end."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from ddln._results import is_okay
from ddln._types import Array
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.flows import MirrorTrajectory, Trajectory, descend, mirror_flow
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.parameterizations import AbstractParameterization, DeepDiagonal, Identity
from ddln.potentials import potential

TITLE = "Gradient Flow vs Mirror flow"
ENDS = "Mirror Flow induces a different implicit bias from Gradient Flow"
# When flows have come to rest.
LATE = 1e7
# When flows are saved, if nothing else is said.
TS = np.append(np.linspace(0.0, problems.T1, 65), LATE)
# Error of the flows: their relative tolerance times the steps, with room for how errors grow.
FLOW_ERROR = 1e-6
COUNTS = np.array([64, 128, 256, 512])


def relative(error: np.ndarray, size: np.ndarray) -> np.ndarray:
    """|error| / |size| of each problem."""
    axes = tuple(range(1, error.ndim))
    return np.sqrt(np.sum(error**2, axis=axes) / np.sum(size**2, axis=tuple(range(1, size.ndim))))


def off_range(X: np.ndarray, xi: np.ndarray) -> np.ndarray:
    """The part of xi that is not in the range of X^T, relative to xi."""
    row_space = np.linalg.pinv(X) @ X
    return relative(xi - np.einsum("pij,pj->pi", row_space, xi), xi)


def nearest_solution(X: np.ndarray, y: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The solution of X x = y at the least distance from the start."""
    misfit = y - np.einsum("pni,pi->pn", X, start)
    return start + np.einsum("pin,pn->pi", np.linalg.pinv(X), misfit)


def accurate_flow(
    start: AbstractParameterization, loss: LeastSquares, ts: ArrayLike = TS
) -> Trajectory:
    """A flow in reduced coordinates, where there are any, for use in `problems.each`."""
    return problems.reduced_flow(start, loss, jnp.asarray(ts), jnp.asarray(problems.RTOL))


def end_of_flow(start: AbstractParameterization, loss: LeastSquares) -> Array:
    """The end of its flow, without integrating; NaN if no end was found."""
    end = limit(start, loss, throw=False)
    return jnp.where(is_okay(end.result), end.theta, jnp.nan)


def data(losses: LeastSquares) -> tuple[np.ndarray, np.ndarray]:
    """X and y of all problems."""
    return np.asarray(losses.X), np.asarray(losses.y)


def starts(settings: Settings) -> np.ndarray:
    """The points from which all flows here start: those of random networks of two layers."""
    return np.prod(np.asarray(problems.networks(settings, 2).layers), axis=1)


@cache
def mirror_flows(settings: Settings) -> MirrorTrajectory:
    """Mirror flows of the hyperbolic entropies of random two-layer networks, from the same points.

    The flow is that of theta, not of its dual variable, so that the mirror map is not integrated.
    """
    return problems.each(_mirror_flow, problems.networks(settings, 2), problems.losses(settings))


def _mirror_flow(network: DeepDiagonal, loss: LeastSquares) -> MirrorTrajectory:
    return mirror_flow(
        potential(network),
        loss,
        LATE,
        ts=TS,
        coordinates="primal",
        rtol=problems.RTOL,
        atol=problems.ATOL,
        adjoint=problems.FORWARD,
        throw=False,
    )


@claim(id="slides-gradient-descent")
def gradient_descent(settings: Settings) -> Evidence:
    r"""Gradient Flow vs Mirror flow: Gradient flow is the continuous version of gradient descent.

    Gradient flow is the continuous version of gradient descent.

        x_{k+1} = x_k - \gamma \nabla f(x_k) \;\longrightarrow\; \frac{d}{dt} x(t) + \nabla f(x(t)) = 0,
        \qquad \gamma \to 0, \; t = \gamma k

    Slide "Gradient Flow vs Mirror flow": descent against e^(-X^T X t), which solves the flow.
    """
    networks, losses = problems.networks(settings, 2), problems.losses(settings)
    X, y = data(losses)
    start = starts(settings)
    ends = np.asarray(problems.each(_descents, networks, losses))
    exact = _closed_form(X, y, start, 1.0)
    error = np.linalg.norm(ends - exact[:, None], axis=2)
    order = np.log2(error[:, :-1] / error[:, 1:])
    return Evidence(
        (
            measured(
                r"largest $|\text{order in } \gamma - 1|$ of the distance at $t = 1$, halving "
                r"$\gamma = 1/256$",
                np.abs(order[:, -1] - 1),
                "<=",
                0.1,
            ),
            measured(
                r"largest distance for $\gamma = 1/512$, relative to $|x - x_0|$",
                relative(ends[:, -1] - exact, exact - start),
                "<=",
                0.02,
            ),
        )
    )


def _descents(network: DeepDiagonal, loss: LeastSquares):
    """x at t = 1 for all step sizes 1 / count."""

    def end(count):
        run = descend(
            Identity(network.effective()),
            loss,
            optax.sgd(1 / count),
            int(COUNTS[-1]),
            ts=COUNTS,
            throw=False,
        )
        return run.theta[jnp.argmax(run.ts == count)]

    return jax.vmap(end)(jnp.asarray(COUNTS, float))


def _closed_form(X: np.ndarray, y: np.ndarray, start: np.ndarray, t: float) -> np.ndarray:
    """x(t) of x' = -X^T (X x - y): each eigenvector of X^T X moves by (1 - e^(-lambda t)) / lambda."""
    values, vectors = np.linalg.eigh(np.swapaxes(X, 1, 2) @ X)
    values = np.maximum(values, 1e-14 * values[:, -1:])
    force = np.einsum("pni,pn->pi", X, y - np.einsum("pni,pi->pn", X, start))
    way = -np.expm1(-values * t) / values * np.einsum("pij,pi->pj", vectors, force)
    return start + np.einsum("pij,pj->pi", vectors, way)


@claim(id="slides-mirror-flow")
def mirror(settings: Settings) -> Evidence:
    r"""Gradient Flow vs Mirror flow: Mirror flow.

    Mirror flow with a convex and differentiable $R$ modifies the geometry of the space; it is gradient flow
    again for $R(x) = \frac{1}{2} \|x\|^2$.

        \frac{d}{dt} \nabla R(x(t)) + \nabla f(x(t)) = 0, \qquad x(0) = x_0

    Slide "Gradient Flow vs Mirror flow": the equation, and R(x) = |x|^2 / 2.
    """
    flow = mirror_flows(settings)
    slopes = np.asarray(problems.each(jax.vmap(_mirror_map, (None, 0)), flow.potential, flow.theta))
    xi = np.asarray(flow.dual)
    steepness = problems.each(jax.vmap(_hessian, (None, 0)), flow.potential, flow.theta)
    start = starts(settings)
    points = np.asarray(flow.theta)[:, -1]
    plain = np.asarray(problems.each(_plain_mirror_map, start, points))
    return Evidence(
        (
            measured(
                r"hyperbolic entropy: largest $|\nabla R(x(t)) - \nabla R(x_0) + \int_0^t \nabla f|$, "
                "relative",
                np.abs(slopes - xi).max((1, 2)) / np.abs(xi).max((1, 2)),
                "<=",
                FLOW_ERROR,
            ),
            measured("smallest entry of its $R''$ along the flows", steepness, ">", 0),
            measured(
                r"$R = \frac{1}{2} \|x\|^2$: largest $|\nabla R(x) - \nabla R(x_0) - (x - x_0)|$, relative",
                relative(plain - (points - start), points - start),
                "<=",
                1e-12,
            ),
        )
    )


def _mirror_map(q, theta):
    return q.mirror_map(theta)


def _hessian(q, theta):
    return q.hessian_diagonal(theta)


def _plain_mirror_map(start, x):
    return potential(Identity(start)).mirror_map(x)


@claim(id="slides-gradient-flow-end")
def gradient_flow_end(settings: Settings) -> Evidence:
    r"""Mirror Flow induces a different implicit bias from Gradient Flow: Gradient flow ends at the nearest
    solution.

    For $f(x) = \frac{1}{2} \|Ax - y\|^2$ gradient flow converges to the nearest solution.

        x_\infty = \arg\min \{ \|x - x_0\|_2 : Ax = y \}

    Slide "implicit bias": the flow e^(-X^T X t) and `ddln.limit` against the pseudo-inverse.
    """
    networks, losses = problems.networks(settings, 2), problems.losses(settings)
    X, y = data(losses)
    start = starts(settings)
    nearest = nearest_solution(X, y, start)
    late = _closed_form(X, y, start, LATE)
    end = problems.each(_identity_limit, networks, losses)
    return Evidence(
        (
            measured(
                "largest distance of the flow, in closed form, at $t = 10^7$ to the nearest solution, "
                "relative",
                relative(late - nearest, nearest - start),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                "the same for `ddln.limit`",
                relative(np.asarray(end) - nearest, nearest - start),
                "<=",
                1e-9,
            ),
        )
    )


def _identity_limit(network: DeepDiagonal, loss: LeastSquares):
    return end_of_flow(Identity(network.effective()), loss)


@claim(id="slides-mirror-flow-end")
def mirror_flow_end(settings: Settings) -> Evidence:
    r"""Mirror Flow induces a different implicit bias from Gradient Flow: Mirror flow ends at the Bregman
    projection.

    For $f(x) = \frac{1}{2} \|Ax - y\|^2$ mirror flow converges to the solution of smallest Bregman
    divergence from the start.

        x_\infty = \arg\min \{ D_R(x, x_0) : Ax = y \} = \arg\min \{ R(x) - \langle \nabla R(x_0), x - x_0
        \rangle : Ax = y \}

    Slide "implicit bias": the flow against the optimality conditions and the convex problem.
    """
    networks, losses = problems.networks(settings, 2), problems.losses(settings)
    X, y = data(losses)
    flow = mirror_flows(settings)
    late = np.asarray(flow.theta)[:, -1]
    end = np.asarray(problems.each(end_of_flow, networks, losses))
    slope = np.asarray(problems.each(_mirror_map, flow.potential, flow.theta[:, -1]))
    # Two potentials have the same curvature, and one of them has its minimum elsewhere.
    both = problems.each(_two_forms, networks, flow.theta[:, -1])
    divergence, form = (np.asarray(values) for values in both)
    return Evidence(
        (
            measured(
                "largest $|Ax - y|$ at a late time, relative",
                relative(np.einsum("pni,pi->pn", X, late) - y, y),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                r"part of $\nabla R(x_\infty) - \nabla R(x_0)$ outside of the range of $A^\top$, relative",
                off_range(X, slope),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                "largest distance of the flow to the solution of the convex problem, relative",
                relative(late - end, end),
                "<=",
                FLOW_ERROR,
            ),
            measured(
                r"$D_R(x, x_0)$ against $R(x) - R(x_0) - \langle \nabla R(x_0), x - x_0 \rangle$ for an "
                "$R$ with another minimum, relative",
                np.abs(divergence - form) / divergence,
                "<=",
                1e-9,
            ),
        ),
        remark="$R$ is the hyperbolic entropy of a random two-layer network.",
    )


def _two_forms(network: DeepDiagonal, x):
    """D_R(x, x_0) from the normalised potential, and from one whose minimum is at 0."""
    layers = network.layers
    gap = jnp.abs(jnp.square(layers[0]) - jnp.square(layers[1]))
    other = potential(DeepDiagonal(jnp.stack([jnp.sqrt(gap), jnp.zeros_like(gap)])))
    start = network.effective()
    form = other.value(x) - other.value(start) - jnp.sum(other.mirror_map(start) * (x - start))
    return potential(network).value(x), form


@claim(id="slides-different-bias")
def different_bias(settings: Settings) -> Evidence:
    r"""Mirror Flow induces a different implicit bias from Gradient Flow: Mirror flow has another implicit
    bias.

    By modifying the geometry of the space, mirror flow induces a different implicit bias from gradient
    flow.

        \arg\min \{ D_R(x, x_0) : Ax = y \} \neq \arg\min \{ \|x - x_0\|_2 : Ax = y \}

    Slide "implicit bias": both flows from the same points, for the same losses.
    """
    networks, losses = problems.networks(settings, 2), problems.losses(settings)
    euclidean = np.asarray(problems.each(_identity_limit, networks, losses))
    mirrored = np.asarray(mirror_flows(settings).theta)[:, -1]
    start = starts(settings)
    distance = relative(mirrored - euclidean, euclidean - start)
    return Evidence(
        (
            measured(
                "smallest distance of the two ends, relative to the way of gradient flow",
                distance,
                ">=",
                1e-3,
            ),
            measured("median of it", np.median(distance), ">=", 0.1),
        )
    )
