"""Step size control."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, PyTree, Scalar

# Of the step size: with diffrax's 0.9 more steps are rejected, and stiff flows take more of them.
SAFETY = 0.8
# By what a step may be shorter or longer than the one before it.
SHORTER, LONGER = 0.2, 10


def _norm(y: PyTree[Array]) -> Scalar:
    """The root mean square of the unknowns."""
    leaves = jax.tree.leaves(y[0])
    # As products: less to compile than sums.
    total = sum(jnp.vdot(leaf, leaf, precision="highest") for leaf in leaves)
    return jnp.sqrt(total / sum(leaf.size for leaf in leaves))


class StepControl(diffrax.AbstractAdaptiveStepSizeController):
    """The rule for the steps of a flow, that of `diffrax.PIDController` without memory.

    For a state y = (unknowns, ...) the error e of a step h from y_0 to y_1 has the size

        E = rms of e / (atol + rtol max(|y_0|, |y_1|)) over the unknowns.

    The step is taken if E < 1, and the next one is h min(10, max(0.2, SAFETY E^(-1/k))) long for a method
    whose error is of order k, after a rejection not longer than SAFETY h. (A dual in the state is a
    quadrature of theta: its error would dilute E, and follows theirs.)

    The first step is chosen by the rule of Hairer, Norsett and Wanner, Solving Ordinary Differential
    Equations I, section II.4. `diffrax.PIDController` skips it for the terms that diffrax makes of the
    caller's (then it begins with 0.01, whatever the scale of the problem), and carries three numbers from
    step to step that this rule has no use for: kernels in every loop over lanes.

    Attributes:
        rtol, atol: the tolerances.
        inside: whether a state is inside of the domain; a step that leaves it is rejected, because there
            is no way back. None if every state is.
        jumps: increasing times that no step crosses, or None.
        norm: for the root finders of implicit solvers.
    """

    rtol: Array
    atol: Array
    inside: Callable[[PyTree[Array]], Array] | None = None
    jumps: Array | None = None
    norm: Callable[[PyTree[Array]], Scalar] = eqx.field(static=True, default=_norm)

    def wrap(self, direction):
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order: Any) -> tuple[Any, None]:
        del t1, dt0

        def size(y):
            return self.norm(
                jax.tree.map(lambda leaf, start: leaf / self._scale(jnp.abs(start)), y, y0)
            )

        f0 = func(terms, t0, y0, args)
        d0, d1 = size(y0), size(f0)
        small = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = jnp.where(small, 1e-6, 0.01 * d0 / jnp.where(small, 1, d1))
        y1 = jax.tree.map(lambda y, f: y + h0 * f, y0, f0)
        f1 = func(terms, t0 + h0, y1, args)
        d2 = size(jax.tree.map(jnp.subtract, f1, f0)) / h0
        largest = jnp.maximum(d1, d2)
        flat = largest <= 1e-15
        h1 = (0.01 / jnp.where(flat, 1, largest)) ** (1 / error_order)
        h = jnp.minimum(100 * h0, jnp.where(flat, jnp.maximum(1e-6, 1e-3 * h0), h1))
        return self._before_jump(
            t0, t0 + jax.lax.stop_gradient(h).astype(jnp.result_type(t0))
        ), None

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order: Any, controller_state
    ):
        del args, controller_state
        if self.inside is not None:
            inside = self.inside(y1_candidate)
            y_error = jax.tree.map(lambda leaf: jnp.where(inside, leaf, jnp.inf), y_error)

        def scaled(y0, y1, error):
            # `fmax`: a candidate that is not a number is as good as none.
            return error / self._scale(jnp.fmax(jnp.abs(y0), jnp.abs(y1)))

        error = self.norm(jax.tree.map(scaled, y0, y1_candidate, y_error))
        keep = error < 1
        # An infinite error may come with an infinite candidate: that is not a number either.
        wanted = jnp.where(jnp.isnan(error), 0, SAFETY * error ** (-1 / error_order))
        factor = jnp.clip(wanted, jnp.where(keep, 1, SHORTER), jnp.where(keep, LONGER, SAFETY))
        step = jax.lax.stop_gradient(factor).astype(jnp.result_type(t0)) * (t1 - t0)
        start = jnp.where(keep, t1, t0)
        end = self._before_jump(start, start + step)
        return keep, start, end, False, None, diffrax.RESULTS.successful

    def _before_jump(self, start: Any, end: Any) -> Any:
        """The end of a step, or the first jump within it."""
        if self.jumps is None:
            return end
        jumps = jax.lax.stop_gradient(self.jumps)
        first = jnp.min(jnp.where(jumps > start, jumps, jnp.inf))
        # No tiny step is left before the jump.
        almost = first - 1e-3 * (first - start)
        return jnp.where(end > almost, first, end)

    def _scale(self, size: Array) -> Array:
        return self.atol + self.rtol * size
