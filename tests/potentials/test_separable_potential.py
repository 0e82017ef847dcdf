"""The closed forms (`_separable`, `_domain`, `_entropies`, `_powers`, `_quadratic`) against the flow
map integrated by SciPy, and their common contract.
"""

import functools

import equinox as eqx
import flow_map_reference as reference
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from potential_references import relative_error
from scipy.integrate import quad

from ddln.potentials import (
    EntropyPotential,
    HypentropyPotential,
    PowerDifferencePotential,
    PowerPotential,
    QuadraticPotential,
)

# Here the time to compile counts, not the time to run.
_quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

_W = np.array([0.4, 1.0, 1.7])
_U, _V = np.array([0.9, 0.5, 1.1]), np.array([0.3, 0.5, 1.6])
_UV = np.concatenate([_U, _V])


def _difference(depth):
    return lambda w: w[:3] ** depth - w[3:] ** depth


# Name: the potential, h, w_0, and a dual coordinate inside of its range.
_CASES = {
    "quadratic": (QuadraticPotential(_W), lambda w: w, _W, np.array([0.5, -2.0, 3.0])),
    "entropy": (EntropyPotential(_W**2 / 2), lambda w: w**2 / 2, _W, np.array([0.5, -2.0, 1.0])),
    "square": (EntropyPotential(_W**2, 4.0), lambda w: w**2, _W, np.array([0.5, -1.0, 0.6])),
    "cube": (PowerPotential(_W**3, 3), lambda w: w**3, _W, np.array([0.5, 0.3, -2.0])),
    "fifth power": (PowerPotential(_W**5, 5), lambda w: w**5, _W, np.array([1.0, 0.06, -2.0])),
    "difference of squares": (
        HypentropyPotential(_U**2 - _V**2, 2 * _U * _V, 4.0),
        _difference(2),
        _UV,
        np.array([0.5, -0.7, 0.6]),
    ),
    "difference of cubes": (
        PowerDifferencePotential(_U, _V, 3),
        _difference(3),
        _UV,
        np.array([0.3, -0.4, -0.2]),
    ),
    "difference of sixth powers": (
        PowerDifferencePotential(_U, _V, 6),
        _difference(6),
        _UV,
        np.array([0.05, 0.3, 0.02]),
    ),
}
_ALL = pytest.mark.parametrize("name", _CASES)
_EACH_CLASS = pytest.mark.parametrize(
    "name", ["quadratic", "entropy", "cube", "difference of squares", "difference of cubes"]
)


@eqx.filter_jit
def _methods(potential, theta, xi, other):
    return {
        "inverse": potential.inverse_mirror_map(xi),
        "conjugate": potential.conjugate(xi),
        "mirror": potential.mirror_map(theta),
        "value": potential.value(theta),
        "hessian": potential.hessian_diagonal(theta),
        "bregman": potential.bregman(theta, other),
        "by_definition": potential.value(theta)
        - potential.value(other)
        - potential.mirror_map(other) @ (theta - other),
        "at_start": (potential.mirror_map(potential.start), potential.value(potential.start)),
    }


@_ALL
def test_closed_forms_match_the_integrated_flow_map(name):
    potential, effective, weights, xi = _CASES[name]
    theta, conjugate = reference.dual_path(effective, weights, xi)
    other = potential.start * jnp.array([1.1, 0.7, 1.3]) + jnp.array([1e-3, 1e-2, 0.0])
    got = _methods(potential, jnp.asarray(theta), jnp.asarray(xi), other)
    np.testing.assert_allclose(potential.start, effective(weights), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(got["inverse"], theta, rtol=1e-11)
    np.testing.assert_allclose(got["conjugate"], conjugate, rtol=1e-11)
    np.testing.assert_allclose(got["mirror"], xi, rtol=1e-10)
    np.testing.assert_allclose(got["value"], theta @ xi - conjugate, rtol=1e-10)
    np.testing.assert_allclose(got["bregman"], got["by_definition"], rtol=1e-11)
    np.testing.assert_allclose(got["at_start"][0], 0, atol=1e-15)
    np.testing.assert_allclose(got["at_start"][1], 0, atol=1e-30)
    # The Hessian of Q is the inverse of the metric, here at the start.
    jacobian = jax.jacobian(effective)(jnp.asarray(weights))
    metric = np.sum(np.square(jacobian), axis=1)
    np.testing.assert_allclose(potential.hessian_diagonal(potential.start), 1 / metric, rtol=1e-13)


@_ALL
def test_divergences_stay_relatively_accurate_close_to_the_reference(name):
    potential, _, _, xi = _CASES[name]
    # By the program of the test before.
    run = functools.partial(_methods, potential, xi=jnp.asarray(xi))
    for size in (0.3, 1e-3, 1e-9):
        reference_point = np.asarray(potential.start * 1.1 + 0.05)
        theta = reference_point * (1 + size)
        # int_reference^theta (theta - t) Q''(t) dt with Q'' = 1/M, elementwise.
        step = theta - reference_point

        def part(i, s, step=step, at=reference_point):
            point = jnp.asarray(at + s * step)
            return (1 - s) * step[i] ** 2 * float(run(theta=point, other=point)["hessian"][i])

        expected = sum(quad(lambda s, i=i: part(i, s), 0, 1, epsabs=0)[0] for i in range(3))
        found = run(theta=jnp.asarray(theta), other=jnp.asarray(reference_point))
        np.testing.assert_allclose(found["bregman"], expected, rtol=1e-12 + 2e-15 / size)


# Q'' at t, with the width 2 u v of the difference of squares.
_HESSIANS = {
    "entropy": lambda t, _: 1 / (2 * t),
    "square": lambda t, _: 1 / (4 * t),
    "cube": lambda t, _: 1 / (9 * mp.cbrt(t) ** 4),
    "fifth power": lambda t, _: 1 / (25 * mp.root(t, 5) ** 8),
    "difference of squares": lambda t, i: 1 / (4 * mp.hypot(t, mp.mpf(float(2 * _U[i] * _V[i])))),
}


@pytest.mark.parametrize("name", _HESSIANS)
def test_divergences_of_numbers_taken_as_exact_match_mpmath(name):
    potential = _CASES[name][0]
    reference_point = potential.start + 0.25
    theta = reference_point * (1 + jnp.array([1e-9, -1e-5, 0.3]))
    values = potential._bregman(theta, reference_point)
    with mp.workdps(40):
        ends = [
            (mp.mpf(float(a)), mp.mpf(float(b)))
            for a, b in zip(reference_point, theta, strict=True)
        ]
        expected = [
            mp.quad(lambda t, b=b, i=i: (b - t) * _HESSIANS[name](t, i), [a, b])
            for i, (a, b) in enumerate(ends)
        ]
    assert relative_error(values, expected) < 1e-14


@_EACH_CLASS
def test_derivatives_at_the_start(name):
    potential = _CASES[name][0]

    @eqx.filter_jit
    def derivatives(q):
        slope = jax.grad(q.value)(q.start)
        dual_slope = jax.grad(q.conjugate)(jnp.zeros(3))
        return slope, dual_slope, jax.jvp(q.mirror_map, (q.start,), (jnp.ones(3),))[1]

    slope, dual_slope, hessian = derivatives(potential)
    np.testing.assert_allclose(slope, 0, atol=1e-15)
    np.testing.assert_allclose(dual_slope, potential.start, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(hessian, potential.hessian_diagonal(potential.start), rtol=1e-13)


@_EACH_CLASS
def test_derivatives_in_every_argument_match_finite_differences(name):
    potential, _, _, xi = _CASES[name]
    arguments = potential, potential.start * 1.2 + 0.01, 0.3 * jnp.asarray(xi)
    directions = jax.tree.map(lambda leaf: 0.3 + 0.5 * leaf, arguments)

    def everything(q, theta, xi):
        sums = jnp.stack([q.value(theta), q.conjugate(xi), q.bregman(theta, 1.3 * theta)])
        return jnp.concatenate([sums, q.mirror_map(theta), q.inverse_mirror_map(xi)])

    @_quick_jit
    def both(arguments):
        value, forward = jax.jvp(everything, arguments, directions)
        reverse = jax.vjp(everything, *arguments)[1](jnp.ones(9))
        leaves = zip(jax.tree.leaves(reverse), jax.tree.leaves(directions), strict=True)
        return value, forward, sum(jnp.sum(r * d) for r, d in leaves)

    _, forward, reverse = both(arguments)
    ahead, behind = (
        both(jax.tree.map(lambda x, d, s=s: x + s * 1e-6 * d, arguments, directions))[0]
        for s in (1, -1)
    )
    np.testing.assert_allclose(forward, (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(reverse, jnp.sum(forward), rtol=1e-10)


@pytest.mark.parametrize("name", ["entropy", "fifth power", "difference of cubes"])
def test_float32_stays_float32(name):
    potential, _, _, xi = _CASES[name]
    single = jax.tree.map(lambda x: x.astype(jnp.float32), potential)
    theta = potential.inverse_mirror_map(jnp.asarray(xi))
    other = (potential.start + theta) / 2
    exact = _methods(potential, theta, jnp.asarray(xi), other)
    points = (single, theta, jnp.asarray(xi), other)
    rounded = _methods(*jax.tree.map(lambda x: x.astype(jnp.float32), points))
    for leaf, expected in zip(jax.tree.leaves(rounded), jax.tree.leaves(exact), strict=True):
        assert leaf.dtype == jnp.float32
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["entropy", "cube", "fifth power"])
def test_the_end_zero_of_the_half_line(name):
    potential = _CASES[name][0]
    assert potential.domain[0].tolist() == [0.0] * 3
    end, near = jnp.zeros(3), jnp.full(3, 1e-200)
    np.testing.assert_allclose(potential.value(end), potential.value(near), rtol=1e-12)
    np.testing.assert_allclose(
        potential.bregman(end, potential.start), potential.value(end), rtol=1e-13
    )
    for method in (potential.mirror_map, potential.hessian_diagonal):
        with pytest.raises(ValueError, match=r"must be between 0.0 and inf at coordinate \[0\]"):
            method(end)
    with pytest.raises(ValueError, match="`domain`"):
        potential.value(-near)
    assert jnp.isnan(eqx.filter_jit(potential.mirror_map)(end)).all()


@pytest.mark.parametrize("name", ["cube", "difference of sixth powers"])
def test_xi_outside_of_its_range(name):
    potential = _CASES[name][0]
    lower, upper = potential.dual_domain
    inside = potential.inverse_mirror_map(upper * (1 - 1e-9))
    assert jnp.all(inside > 1e6 * jnp.abs(potential.start))
    with pytest.raises(ValueError, match="`xi` must be between"):
        potential.conjugate(upper)
    half = jnp.where(jnp.arange(3) == 1, upper, 0)
    theta = eqx.filter_jit(potential.inverse_mirror_map)(half)
    assert np.isnan(theta).tolist() == [False, True, False]
    if name.startswith("difference"):
        assert jnp.all(potential.inverse_mirror_map(lower * (1 - 1e-9)) < -1e6)


def test_the_inverse_of_the_difference_holds_far_out():
    potential = PowerDifferencePotential(_U, _V, 3)
    np.testing.assert_allclose(potential.weights(potential.origin), (_U, _V), rtol=1e-13)
    x = jnp.array([-1.0, 0.2, 3.0])
    change = jnp.full(3, 1e-4)
    slope = (potential.step(x, change) - potential.step(x, -change)) / 2e-4
    np.testing.assert_allclose(potential.rate(x), slope, rtol=1e-8)
    for size in (1e-12, 1e-6, 1.0, 1e6, 1e12):
        theta = jnp.array([size, -size, size])
        xi = potential.mirror_map(theta)
        ends = jnp.minimum(potential.dual_domain[1] - xi, xi - potential.dual_domain[0])
        # xi, a number, resolves theta only up to eps / (distance to the end).
        tolerance = 1e-13 + 1e-15 / ends
        assert jnp.all(jnp.abs(potential.inverse_mirror_map(xi) - theta) <= tolerance * (1 + size))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyPotential([1.0, 0.0]), r"`start` must be positive, but entry \[1\] is 0.0"),
        (lambda: EntropyPotential([1.0], 0.0), "`rate` must be finite and positive"),
        (lambda: PowerPotential([1.0], 2), "`depth` must be above 2.*EntropyPotential"),
        (lambda: PowerPotential([-1.0], 3), "`start` must be positive"),
        (lambda: PowerDifferencePotential([1.0], [1.0], 2), "`depth`.*HypentropyPotential"),
        (lambda: PowerDifferencePotential([1.0], [1.0, 2.0], 3), "`negative` must have the shape"),
        (lambda: HypentropyPotential([1.0], [0.0], 4.0), "`width` must be positive"),
        (lambda: QuadraticPotential([np.nan]), "`start` must be finite"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_matrices_are_effective_parameters_too():
    potential = EntropyPotential(np.ones((2, 2)))
    theta = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(potential.mirror_map(theta), 0.5 * np.log(theta))
