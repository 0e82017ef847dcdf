"""The two equations of the state evolution, their solution, and its derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import in_chunks
from ddln._types import Array, Bool, Float, Int, Scalar
from ddln.asymptotics._moments import Moments, Sample, moments_and_slopes
from ddln.asymptotics._nodes import Chart, Nodes
from ddln.asymptotics._signal import Signal
from ddln.asymptotics._sum_chart import SumChart
from ddln.potentials import AbstractCurve

# First step in log s where the root is not bracketed; it doubles each time.
FIRST_RADIUS = 2.0
# Largest step in log gamma.
LARGEST_STEP = 60.0
# Residual of the second equation from which on log s moves, too.
CLOSE = 0.3
# Distance within which nodes serve for another point, and the most Newton's steps there.
NEAR, POLISHING = 0.1, 3
# Size of a step that is the last one: the next would be below rounding.
TINY = 1e-8
# Lanes of `jax.vmap` at a time: their arrays of nodes fill the cache.
LANES = 64


class Equations(eqx.Module):
    """The equations for the effective noise s and the effective penalty gamma.

        alpha s^2 = alpha sigma^2 + E (theta - theta*)^2,     alpha (1 - lambda / gamma) = E M / (M + gamma).

    The unknowns are x = (log s, log gamma).

    Attributes:
        curve: the curves of the starts.
        signal: the law of theta* for each start, shape [J, K].
        weights: the probabilities of the starts.
        ratio: alpha = n/d.
        variance: sigma^2.
        penalty: lambda.
    """

    curve: AbstractCurve
    signal: Signal
    weights: Float[Array, " K"]
    ratio: Scalar
    variance: Scalar
    penalty: Scalar

    def panels(self, x: Float[Array, "2"], chart: Chart | SumChart) -> Float[Array, "J E K"]:
        spread = jnp.sqrt(jnp.square(self.signal.deviations) + jnp.exp(2 * x[0]))
        return chart.panels(self.signal.means, spread, jnp.exp(x[1]))

    def residual(self, x: Float[Array, "2"], sample: Sample) -> Float[Array, "2"]:
        """Both equations at x, with expectations over nodes that were placed for it or for a point near."""
        m = Moments.of(sample, self.signal, self.weights, *jnp.exp(x))
        moments = jnp.stack([m.mse, m.divergence, m.shrinkage, m.pull])
        return self._balance(x, moments[None])[0]

    def linearized(
        self, x: Float[Array, "2"], sample: Sample
    ) -> tuple[Float[Array, "2 2"], Float[Array, "2"]]:
        """The Jacobian of the residual, and the residual."""
        balanced = self._balance(
            x, moments_and_slopes(sample, self.signal, self.weights, *jnp.exp(x))
        )
        return balanced[1:].T, balanced[0]

    def _balance(
        self, x: Float[Array, "2"], moments: Float[Array, "rows 4"]
    ) -> Float[Array, "rows 2"]:
        """Both equations in logarithms, in forms that are nearly straight lines in x, and their slopes.

        With D = E M / (M + gamma), E (theta - theta*)^2 = s^2 (2 D - 1) + gamma^2 E xi^2 (Stein's lemma). For
        alpha near 1 the first equation is nearly void, but with the second one it becomes
        s^2 (1 - alpha + 2 alpha lambda / gamma) = alpha sigma^2 + gamma^2 E xi^2, a sum of positive terms.
        The second one is the difference of the logits of its sides for lambda = 0.

        Args:
            x: log s and log gamma.
            moments: `mse`, `divergence`, `shrinkage` and `pull` there; and perhaps their derivatives in log s
                and in log gamma.
        """
        alpha = self.ratio
        near = (alpha > 0.5) & (alpha < 1)
        more, less = jnp.maximum(alpha - 1, 0), jnp.maximum(1 - alpha, 0)
        zero, one = jnp.zeros_like(alpha), jnp.ones_like(alpha)
        # The error, what it is compared with, and both sides of the second equation: of each the part that is
        # not a moment, which has a term in lambda / gamma.
        compared = jnp.where(near, less, alpha)
        plain = jnp.stack([alpha * self.variance, compared, more, less, zero, alpha])
        share = jnp.stack([zero, jnp.where(near, 2, zero), zero, one, one, zero])
        term = alpha * self.penalty * jnp.exp(-x[1]) * share
        known = jnp.stack([plain + term, jnp.zeros_like(plain), -term])[: len(moments)]
        mse, divergence, shrinkage, pull = moments.T
        none = jnp.zeros_like(mse)
        found = [jnp.where(near, pull, mse), none, shrinkage, none, divergence, none]
        parts = known + jnp.stack(found, axis=1)
        logarithms = jnp.concatenate([jnp.log(parts[:1]), parts[1:] / parts[:1]])
        error, compared, shrunk, kept, moved, ratio = logarithms.T
        noise = jnp.stack([2 * x[0], 2 * one, zero])[: len(moments)]
        return jnp.stack([noise - error + compared, shrunk - kept - moved + ratio], axis=1)

    def guess(self) -> Float[Array, "2"]:
        """s for theta = theta_0, and gamma for the metric of the start."""
        signal, curve = self.signal, self.curve
        theta, alpha = curve.at(curve.origin), self.ratio
        squares = jnp.square(signal.means - theta[None]) + jnp.square(signal.deviations)
        squares = jnp.sum(signal.probabilities * squares, axis=0)
        noise = self.variance + jnp.sum(self.weights * squares) / alpha
        metric = jnp.sum(self.weights * curve.metric(curve.origin))
        return jnp.stack(
            [
                0.5 * jnp.log(noise),
                jnp.log(self.penalty + metric * jnp.maximum(1 - alpha, 0.01) / alpha),
            ]
        )


class Search(eqx.Module):
    """The root in log s of the first equation along the curve log gamma (log s) that solves the second one.

    The equations are the stationarity of a function that is convex in s and concave in s / gamma, so that
    there is one root, below which the residual of the first equation is negative. For small starts it
    hardly changes over tens of units of log s, where neither its size nor Newton's step says how far the
    root is: a bracket is needed.

    Attributes:
        x: the last point for which nodes were placed.
        panels: the panels there.
        residual: of both equations there.
        jacobian: of the residual there.
        next: the point to evaluate next.
        low: lower bounds of the root: of log s, and of log gamma at this s; or -inf.
        high: upper bounds.
        radius: the next step in log s where there is no bound yet.
        count: evaluations so far.
    """

    x: Float[Array, "2"]
    panels: Float[Array, "J E K"]
    residual: Float[Array, "2"]
    jacobian: Float[Array, "2 2"]
    next: Float[Array, "2"]
    low: Float[Array, "2"]
    high: Float[Array, "2"]
    radius: Float[Array, ""]
    count: Int[Array, ""]

    @classmethod
    def first(cls, x: Float[Array, "2"], panels: Float[Array, "J E K"]) -> "Search":
        number = lambda value: jnp.asarray(value, x.dtype)  # noqa: E731
        unknown = jnp.full_like(x, jnp.inf)
        radius, rows = number(FIRST_RADIUS), jnp.eye(2, dtype=x.dtype)
        return cls(x, panels, unknown, rows, x, -unknown, unknown, radius, jnp.asarray(0))

    def converged(self) -> Bool[Array, ""]:
        return jnp.max(jnp.abs(self.residual)) < float(jnp.finfo(self.x.dtype).eps) ** 0.7

    def advanced(self, equations: Equations, chart: Chart | SumChart) -> "Search":
        """Evaluate the equations at the next point, and choose the one after it.

        Near the root Newton's steps follow at the nodes that are there, while they get shorter: they cost a
        fraction of an evaluation with nodes of its own. They are turns of one loop, which is one program.
        """
        placed = self.next
        panels = equations.panels(placed, chart)
        sample = Sample.at(chart.nodes(panels), equations.curve)

        def unfinished(state):
            _, _, last, count = state
            return (count == 0) | ((last > TINY) & (count <= POLISHING))

        def turn(state):
            search, x, last, count = state
            rows, value = equations.linearized(x, sample)
            begun = search._stepped(rows, value)
            step = -_solve(rows, value)
            first = count == 0
            # From the step that was chosen, and then by those of Newton's method.
            moved = jnp.max(jnp.abs(begun.next - placed))
            size = jnp.max(jnp.abs(step))
            size = jnp.where(first, jnp.where(moved < NEAR, moved, 0), size)
            shorter = first | (size < 0.5 * last)
            x = jnp.where(first, begun.next, jnp.where(shorter, x + step, x))
            search = jax.tree.map(lambda new, old: jnp.where(first, new, old), begun, search)
            return search, x, jnp.where(shorter, size, 0), count + 1

        started = eqx.tree_at(lambda search: search.panels, self, panels)
        state = (started, placed, jnp.zeros_like(placed[0]), jnp.asarray(0))
        search, polished, _, _ = jax.lax.while_loop(unfinished, turn, state)
        low, high = search.low[0], search.high[0]
        bounded = jnp.isfinite(low) & jnp.isfinite(high)
        outside = bounded & ((polished[0] <= low) | (polished[0] >= high))
        following = jnp.where(outside, search.next, polished)
        return eqx.tree_at(lambda search: search.next, search, following)

    def _stepped(self, rows: Float[Array, "2 2"], value: Float[Array, "2"]) -> "Search":
        """The search after an evaluation at the next point: the Jacobian and the residual there."""
        x = self.next
        (a, b), (c, d) = rows
        # Along the curve of the second equation, to first order from here.
        along = value[0] - b / d * value[1]
        slope = a - b * c / d
        far = jnp.abs(value[1]) > CLOSE
        sure = ~far & (jnp.abs(b / d * value[1]) < 0.5 * jnp.abs(along))
        signs = jnp.stack([jnp.where(sure, along, 0), value[1]])
        low, high = jnp.where(signs < 0, x, self.low), jnp.where(signs > 0, x, self.high)
        bounded = jnp.isfinite(low) & jnp.isfinite(high)
        middle = 0.5 * (jnp.where(bounded, low, 0) + jnp.where(bounded, high, 0))

        # Newton's step within the bracket; else to its middle, or beyond the last point.
        newton = x[0] - along / slope
        reach = jnp.where(bounded[0], jnp.inf, self.radius)
        good = (newton > low[0]) & (newton < high[0]) & (slope > 0)
        good = good & (jnp.abs(newton - x[0]) <= reach)
        beyond = x[0] - jnp.sign(along) * self.radius
        step = jnp.where(good, newton, jnp.where(bounded[0], middle[0], beyond)) - x[0]
        radius = jnp.where(far | good | bounded[0], 1, 2) * self.radius

        # The penalty follows, or moves alone.
        step = jnp.where(far, 0, step)
        change = jnp.clip(-(value[1] + c * step) / d, -LARGEST_STEP, LARGEST_STEP)
        inside = (x[1] + change > low[1]) & (x[1] + change < high[1])
        slow = jnp.abs(value[1]) > 0.5 * jnp.abs(self.residual[1])
        change = jnp.where(far & bounded[1] & (slow | ~inside), middle[1] - x[1], change)
        low = jnp.stack([low[0], jnp.where(far, low[1], -jnp.inf)])
        high = jnp.stack([high[0], jnp.where(far, high[1], jnp.inf)])
        following = x + jnp.stack([step, change])
        return Search(x, self.panels, value, rows, following, low, high, radius, self.count + 1)


def _solve(matrix: Float[Array, "2 2"], side: Float[Array, "2"]) -> Float[Array, "2"]:
    (a, b), (c, d) = matrix
    return jnp.stack([d * side[0] - b * side[1], a * side[1] - c * side[0]]) / (a * d - b * c)


def solve(
    equations: Equations,
    chart: Chart | SumChart,
    known: Float[Array, "2"],
    active: Bool[Array, ""],
    max_steps: int,
) -> Search:
    """The solution, without derivatives, with the panels there.

    Args:
        equations: the equations.
        chart: that of their curve.
        known: the solution where there is nothing to search.
        active: False there.
        max_steps: the most evaluations.
    """

    def search(
        equations: Equations,
        chart: Chart | SumChart,
        known: Float[Array, "2"],
        active: Bool[Array, ""],
    ) -> Search:
        def unfinished(search):
            usable = jnp.all(jnp.isfinite(search.next))
            more = active & usable & ~search.converged() & (search.count < max_steps)
            return (search.count == 0) | more

        x = jnp.where(active, equations.guess(), known)
        shape = jax.eval_shape(lambda: equations.panels(x, chart))
        first = Search.first(x, jnp.zeros(shape.shape, shape.dtype))
        return jax.lax.while_loop(
            unfinished, lambda search: search.advanced(equations, chart), first
        )

    fixed = jax.lax.stop_gradient((equations, chart, known))
    return in_chunks(search, LANES)(*fixed, active)


@jax.custom_jvp
def with_derivatives(
    x: Float[Array, "2"], jacobian: Float[Array, "2 2"], equations: Equations, nodes: Nodes
) -> Float[Array, "2"]:
    """x unchanged, with the derivatives of a solution by the implicit function theorem.

    Args:
        x: the solution.
        jacobian: that of the residual there.
        equations: the equations.
        nodes: those for x.
    """
    return x


@with_derivatives.defjvp
def _with_derivatives_jvp(primals, tangents):
    x, jacobian, equations, nodes = primals
    x = with_derivatives(x, jacobian, equations, nodes)

    def residual(equations):
        sample = Sample.at(nodes, equations.curve, moving_start=True)
        return equations.residual(x, sample)

    change = jax.jvp(residual, (equations,), (tangents[2],))[1]
    return x, -_solve(_differentiable(jacobian, x, equations, nodes), change)


@jax.custom_jvp
def _differentiable(
    jacobian: Float[Array, "2 2"], x: Float[Array, "2"], equations: Equations, nodes: Nodes
) -> Float[Array, "2 2"]:
    """The Jacobian of the residual at x, as it is given, with its derivatives: for those of second order."""
    return jacobian


@_differentiable.defjvp
def _differentiable_jvp(primals, tangents):
    jacobian, x, equations, nodes = primals

    def linearized(x, equations):
        sample = Sample.at(nodes, equations.curve, moving_start=True)
        return equations.linearized(x, sample)[0]

    change = jax.jvp(linearized, (x, equations), tangents[1:3])[1]
    return _differentiable(jacobian, x, equations, nodes), change
