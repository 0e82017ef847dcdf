"""A stabilized explicit Runge-Kutta method for stiff flows, without linear solves."""

import functools
from typing import ClassVar, NamedTuple

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import PyTree

from ddln._types import Array, Scalar
from ddln.solvers._structure import Time

# Damping of the stability polynomial.
DAMPING = 2 / 13
# Iterations of the power method at the start of the flow and in each step.
FIRST, NEXT = 30, 2
# Factor of the estimated spectral radius, which the power method approaches from below.
MARGIN = 1.1


class RKC(diffrax.AbstractAdaptiveSolver):
    """Runge-Kutta-Chebyshev method of order 2, with the number of stages that stability needs.

    A diffrax solver for a `diffrax.ODETerm` whose Jacobian has (nearly) real, mostly negative
    eigenvalues, such as a gradient flow. A step h takes s = 1 + sqrt(1 + 1.54 h rho) stages, rho the
    spectral radius of the Jacobian by the power method with Jacobian-vector products. A stage costs
    two matrix products with the data, where `Rodas5P` factorizes a matrix of min(n, d) rows in each
    step. Dense output is cubic Hermite.

    Source: Sommeijer, Shampine and Verwer (1998), RKC: an explicit solver for parabolic PDEs,
    J. Comput. Appl. Math. 88:315-326, equations (2.1) to (2.9).

    Example:
        >>> flow = ddln.gradient_flow(network, loss, 100.0, solver=ddln.RKC(), rtol=1e-4)

    Attributes:
        max_stages: the largest number of stages; a step that needs more is rejected. Rounding grows
            with the square of the number of stages.
        reverse: True for derivatives in reverse mode, with checkpoints of the stages; False for
            forward mode (`diffrax.ForwardMode()`). No loop over a number of
            stages that is known at run time only has both.
    """

    max_stages: int = eqx.field(default=500, static=True)
    reverse: bool = eqx.field(default=False, static=True)

    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar = diffrax.ThirdOrderHermitePolynomialInterpolation

    def order(self, terms):
        return 2

    def init(self, terms, t0, t1, y0, args):
        """The velocity, and the dominant eigenvector of the Jacobian."""
        velocity = terms.vf(t0, y0, args)
        direction, _ = _dominant(terms, t0, y0, args, velocity, FIRST)
        return velocity, direction

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        velocity, direction = solver_state
        velocity = jax.lax.cond(made_jump, lambda: terms.vf(t0, y0, args), lambda: velocity)
        direction, radius = _dominant(terms, t0, y0, args, direction, NEXT)
        control = jnp.asarray(terms.contr(t0, t1))
        dtype = jnp.result_type(*jax.tree.leaves(y0))
        h = control.astype(dtype)
        needed = jnp.sqrt(1 + 1.54 * MARGIN * jnp.abs(h) * radius)
        fits = needed < self.max_stages
        stages = 2 + jnp.where(fits, needed, 0).astype(int)

        kind = "checkpointed" if self.reverse else "lax"
        loop = functools.partial(eqxi.while_loop, kind=kind, max_steps=self.max_stages)
        y1 = _stages(terms, t0, t1, y0, args, velocity, h, stages, loop)
        velocity1 = terms.vf(t1, y1, args)
        error = jax.tree.map(
            lambda a, b, f, g: jnp.where(fits, 0.8 * (a - b) + 0.4 * h * (f + g), jnp.inf),
            y0,
            y1,
            velocity,
            velocity1,
        )
        dense = dict(
            y0=y0,
            y1=y1,
            k0=jax.tree.map(lambda leaf: h * leaf, velocity),
            k1=jax.tree.map(lambda leaf: h * leaf, velocity1),
        )
        return y1, error, dense, (velocity1, direction), diffrax.RESULTS.successful


def _stages(terms, t0, t1, y0, args, velocity, h, stages, loop) -> PyTree[Array]:
    """The last stage, the solution at the end of the step."""
    s = stages.astype(h.dtype)
    delta = DAMPING / jnp.square(s)
    w0, root = 1 + delta, jnp.sqrt(delta * (2 + delta))
    angle = s * jnp.log1p(delta + root)
    # T_s'(w0) / T_s''(w0) for the Chebyshev polynomial T_s.
    w1 = jnp.sinh(angle) * root / (s * jnp.cosh(angle) - w0 * jnp.sinh(angle) / root)
    # b_0 = b_1 = b_2.
    b = 1 / (4 * jnp.square(w0))
    first = _Stage(
        y=jax.tree.map(lambda y, f: y + b * w1 * h * f, y0, velocity),
        node=b * w1,
        b=b,
        chebyshev=jnp.stack([w0, jnp.ones_like(w0), jnp.zeros_like(w0)]),
    )
    zeroth = _Stage(y0, jnp.zeros_like(w0), b, jnp.asarray([1, 0, 0], h.dtype))

    def following(carry):
        j, last, before = carry
        # T_j, T_j' and T_j'' by the recurrence of T_j and its derivatives.
        drive = jnp.stack([jnp.zeros_like(w0), last.chebyshev[0], 2 * last.chebyshev[1]])
        chebyshev = 2 * w0 * last.chebyshev - before.chebyshev + 2 * drive
        b = chebyshev[2] / jnp.square(chebyshev[1])
        mu, nu, rate = 2 * w0 * b / last.b, -b / before.b, 2 * w1 * b / last.b
        a = 1 - last.b * last.chebyshev[0]
        slope = terms.vf(t0 + last.node * (t1 - t0), last.y, args)
        y = jax.tree.map(
            lambda start, p, q, f, g: (
                (1 - mu - nu) * start + mu * p + nu * q + rate * h * (f - a * g)
            ),
            y0,
            last.y,
            before.y,
            slope,
            velocity,
        )
        node = w1 * chebyshev[2] / chebyshev[1]
        return j + 1, _Stage(y, node, b, chebyshev), last

    _, last, _ = loop(lambda carry: carry[0] <= stages, following, (jnp.asarray(2), first, zeroth))
    return last.y


class _Stage(NamedTuple):
    """Stage j of a step: the value, the node c_j, b_j, and T_j, T_j', T_j'' at w0."""

    y: PyTree[Array]
    node: Scalar
    b: Scalar
    chebyshev: Array


def _dominant(
    terms, t: Time, y: PyTree[Array], args, direction: PyTree[Array], steps: int
) -> tuple[PyTree[Array], Scalar]:
    """The dominant eigenvector of the Jacobian, times its spectral radius, and that radius."""

    def stretch(carry, _):
        direction, _ = carry
        size = optx.two_norm(direction)
        unit = jax.tree.map(lambda leaf: leaf / jnp.where(size > 0, size, 1), direction)
        _, image = jax.jvp(lambda y: terms.vf(t, y, args), (y,), (unit,))
        return (image, optx.two_norm(image)), None

    start = (direction, jnp.zeros_like(optx.two_norm(direction)))
    found, _ = jax.lax.scan(stretch, start, length=steps)
    # Both only choose the number of stages.
    return jax.lax.stop_gradient(found)
