"""The rule for steps, against that of diffrax."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from ddln.engine._step_control import SAFETY, StepControl

RTOL, ATOL, ORDER = 1e-4, 1e-7, 5


def both():
    """The rule, and diffrax's with the same numbers."""
    pid = diffrax.PIDController(
        rtol=RTOL, atol=ATOL, safety=SAFETY, norm=lambda y: optx.rms_norm(y[0])
    )
    return StepControl(jnp.asarray(RTOL), jnp.asarray(ATOL)), pid


def state(seed):
    # Unknowns in two blocks, and a dual that no step depends on.
    rng = np.random.default_rng(seed)
    return (rng.normal(size=7), rng.normal(size=3)), rng.normal(size=7)


def scaled(tree, by):
    return jax.tree.map(lambda leaf: leaf * by, tree)


def test_the_first_step_is_the_one_of_diffrax():
    rates = np.geomspace(0.1, 1e3, 7)

    def field(t, y, args):
        (a, b), dual = y
        return (-rates * a, jnp.sin(b)), dual**2

    def first(control, scale):
        begun, _ = control.init(
            diffrax.ODETerm(field),
            jnp.asarray(0.0),
            jnp.asarray(9.0),
            scaled(state(3), scale),
            None,
            None,
            lambda terms, t, y, args: terms.vf(t, y, args),
            ORDER,
        )
        return begun

    # At zero nothing moves.
    scales = jnp.asarray([0, 1e-9, 1e-3, 1, 1e6])
    found, expected = jax.jit(
        lambda: [jax.vmap(lambda scale, c=c: first(c, scale))(scales) for c in both()]
    )()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.all((np.asarray(found) > 0) & np.isfinite(found))


def next_step(control, y0, y1, error):
    memory = None if isinstance(control, StepControl) else (1.0, 1.0, False)
    return control.adapt_step_size(
        jnp.asarray(1.0), jnp.asarray(1.5), y0, y1, None, error, ORDER, memory
    )[:3]


def test_the_next_step_is_the_one_of_diffrax():
    y0, y1 = state(5), state(6)
    ones = jax.tree.map(np.ones_like, y0)
    sizes = jnp.asarray([0, 1e-9, 1e-6, 1e-4, 3e-4, 1e-2, 1e3, np.inf])
    found, expected = jax.jit(
        lambda: [
            jax.vmap(lambda size, c=c: next_step(c, y0, y1, scaled(ones, size)))(sizes)
            for c in both()
        ]
    )()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_array_equal(found[0], np.asarray(sizes) < 5e-5)


def test_after_a_candidate_that_is_not_finite_the_step_is_a_fifth():
    control, _ = both()
    error = (jnp.full(3, np.inf), None)

    def after(bad):
        return next_step(control, (jnp.ones(3), None), (jnp.asarray([1, bad, 1]), None), error)

    keep, start, end = jax.jit(jax.vmap(after))(jnp.asarray([np.nan, np.inf]))
    assert not np.any(keep)
    np.testing.assert_array_equal(start, 1)
    np.testing.assert_allclose(end, 1.1)
