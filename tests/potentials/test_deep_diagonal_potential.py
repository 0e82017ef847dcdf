"""The potential of a deep diagonal network (`_deep_diagonal`) against its identities and closed forms."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import potential_references as references
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gamma

import ddln
from ddln.parameterizations import DeepDiagonal
from ddln.potentials import DeepDiagonalPotential, potential

# Here the time to compile counts, not the time to run.
_quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
_LANES = 600
_FACTOR = -0.7


@_quick_jit
@jax.vmap
def _legendre(start, gaps, signs, theta, other):
    """What the Legendre identities compare, for one network."""
    q = DeepDiagonalPotential(start, gaps, signs, _FACTOR)
    points = jnp.stack([theta, other])
    xi, slope = jax.vmap(q.mirror_map)(points)
    value, value_other = jax.vmap(q.value)(points)
    return {
        "xi": xi,
        "slope": slope,
        "value": value,
        "conjugate": q.conjugate(xi),
        "inverse": q.inverse_mirror_map(xi),
        "hessian": q.hessian_diagonal(theta),
        "hessian_other": q.hessian_diagonal(other),
        "bregman": q.bregman(theta, other),
        "by_definition": value - value_other - slope @ (theta - other),
        "terms": value + value_other + jnp.abs(slope) @ jnp.abs(theta - other),
        "monotone": (xi - slope) * (theta - other),
    }


def _networks(depth, dtype, seed):
    """Networks of one coordinate, and two points that the flow can reach, over many scales.

    In float64 the ratios of gaps span 1e-12..1e12; some gaps are equal, some vanish (ties); v is
    zero, close to v_0, or up to 1e8 times the root of the smallest gap (1e4 for 20 layers, whose
    theta would overflow).
    """
    rng = np.random.default_rng(seed)
    double = dtype == "float64"
    gaps = references.hard_gaps(rng, depth, _LANES, (12 if depth < 20 else 6) if double else 2)
    low = np.sqrt(gaps[0])
    sizes = (8 if depth < 20 else 4) if double else 2
    v0, v, other = (
        rng.choice([-1.0, 1.0], _LANES) * low * 10 ** rng.uniform(-3, top, _LANES)
        for top in (2 if double else 1, sizes, sizes)
    )
    close = rng.uniform(size=_LANES) < 0.2
    v = np.where(close, v0 * (1 + 10 ** rng.uniform(-8 if double else -4, -1, _LANES)), v)
    tied = rng.uniform(size=_LANES) < 0.2
    gaps[0, tied] = 0
    v, other = (np.where(tied, np.abs(x) * np.sign(v0), x) for x in (v, other))
    # v_0 = 0, as in the zero-last start, and theta = 0.
    v0[(rng.uniform(size=_LANES) < 0.2) & ~tied & ~close] = 0
    v[(rng.uniform(size=_LANES) < 0.1) & ~tied] = 0
    signs = rng.choice([-1.0, 1.0], gaps.shape)
    unit = _FACTOR * signs.prod(axis=0)
    theta, other = (unit * x * np.prod(np.sqrt(x**2 + gaps), axis=0) for x in (v, other))
    return tuple(
        jnp.asarray(np.moveaxis(x[..., None], -2, 0), dtype)
        for x in (v0, gaps, signs, theta, other)
    )


# Depth, dtype and tolerance.
_CASES = [
    (2, "float64", 1e-13),
    (3, "float64", 1e-13),
    (6, "float64", 1e-13),
    (20, "float64", 1e-13),
    (3, "float32", 3e-6),
]


def _check_legendre(depth, dtype, tolerance, seed):
    """Inverse maps, Q + Q* = <theta, xi>, and signs; returns theta, theta' and what was computed."""
    arguments = _networks(depth, dtype, seed)
    got = {name: np.asarray(x).reshape(_LANES) for name, x in _legendre(*arguments).items()}
    theta, other = (np.asarray(x)[:, 0] for x in arguments[3:])
    xi, value, conjugate = got["xi"], got["value"], got["conjugate"]
    # By how much the rounding of xi, a number, changes theta; it grows towards the ends of its range.
    amplified = np.abs(theta) + np.abs(xi) / got["hessian"]
    resolved = (tolerance * amplified <= np.abs(theta)) | (theta == 0)
    assert resolved.mean() > 0.7
    off = np.abs(got["inverse"] - theta) <= tolerance * amplified
    assert np.all(off | ~resolved)
    sizes = value + np.abs(conjugate) + np.abs(theta * xi)
    balanced = np.abs(value + conjugate - theta * xi) <= tolerance * sizes
    assert np.all(balanced | ~resolved)
    assert np.all(value >= 0)
    assert np.all(got["bregman"] > 0)
    return theta, other, got


@pytest.mark.parametrize(("depth", "dtype", "tolerance"), _CASES)
def test_legendre_identities(depth, dtype, tolerance):
    """Of 3000 random networks; the largest errors found are 8e-15 in float64, 5e-7 in float32."""
    _, _, got = _check_legendre(depth, dtype, tolerance, seed=depth)
    assert np.all(np.abs(got["bregman"] - got["by_definition"]) <= tolerance * got["terms"])
    assert np.all(got["monotone"] >= 0)


@pytest.mark.parametrize(("depth", "dtype", "tolerance"), [*_CASES[:-1], (3, "float32", 1e-5)])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_legendre_identities_of_any_networks(seed, depth, dtype, tolerance):
    """600 random networks an example. Comparisons of two rounded xi are within their rounding: at the
    end of its range xi is the same number for many theta, and close to theta_0 it is a small
    difference of rounded theta.
    """
    theta, other, got = _check_legendre(depth, dtype, tolerance, seed)
    apart = np.abs(theta - other)
    xi_size = np.abs(got["xi"]) + np.abs(got["slope"])
    assert np.all(got["monotone"] >= -tolerance * xi_size * apart)
    terms = got["terms"] + np.abs(other) * got["hessian_other"] * apart
    assert np.all(np.abs(got["bregman"] - got["by_definition"]) <= tolerance * terms)


def test_the_start_is_that_of_the_network():
    layers = jnp.asarray(np.random.default_rng(0).normal(size=(4, 200)))
    layers = layers.at[:, :50].set(jnp.abs(layers[:1, :50]))  # ties
    network = DeepDiagonal(layers, _FACTOR)

    @_quick_jit
    def at_start(network):
        q = potential(network)
        return q.start, q.mirror_map(q.start), q.hessian_diagonal(q.start)

    start, slope, hessian = at_start(network)
    np.testing.assert_allclose(start, _FACTOR * np.prod(layers, axis=0), rtol=1e-12)
    np.testing.assert_allclose(hessian * network.metric_diagonal(), 1, rtol=1e-12)
    assert np.all(np.abs(slope) <= 1e-14 * np.abs(start) * hessian)


def test_two_layers_are_the_hyperbolic_entropy():
    # theory: Q = (1/4) sum(2 t arcsinh(2 t / D) - sqrt(4 t^2 + D^2)) - (1/2) <k, t> + constant.
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 40))
    theta = rng.normal(size=40) * 3

    def printed(t):
        width = np.abs(u**2 - v**2)
        shift = np.log(np.abs((u + v) / (u - v)))
        entropy = 2 * t * np.arcsinh(2 * t / width) - np.sqrt(4 * t**2 + width**2)
        return np.sum(0.25 * entropy - 0.5 * shift * t)

    q = potential(DeepDiagonal(np.stack([u, v])))
    expected = printed(theta) - printed(u * v)
    np.testing.assert_allclose(q.value(jnp.asarray(theta)), expected, rtol=1e-12)


def _yun_h(depth, t):
    """h_L of Yun, Krishnan and Mobahi 2021, Corollary 5, in closed form."""
    if depth == 2:
        return np.sinh(2 * t) / 2
    if depth == 3:
        return np.tan(t) / np.cos(t) ** 2
    if depth == 4:
        return t / (1 - t**2) ** 2
    s = 2 * np.sin(np.arcsin(3 * t / 2) / 3)
    q = s / np.sqrt(1 - s**2)
    return q * (1 + q**2) ** 2.5


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_zero_last_start_has_the_potential_of_yun_et_al(depth):
    # Q = alpha^2 sum ubar^2 H(theta / size^L), size = alpha |ubar|, with H' the inverse of h: so
    # theta = size^L h(t) at xi = size^(2-L) t; t ends at (sqrt(pi)/2) G((L-2)/2) / G((L-1)/2).
    ubar, alpha = np.array([1.0, -0.7, 2.0, 0.3]), 0.5
    q = potential(DeepDiagonal.zero_last(jnp.asarray(ubar), depth, alpha))
    end = 3.0
    if depth > 2:
        end = np.sqrt(np.pi) / 2 * gamma((depth - 2) / 2) / gamma((depth - 1) / 2)
    t = end * np.array([0.5, -0.9, 0.1, 0.99])
    size = alpha * np.abs(ubar)
    xi = q.mirror_map(jnp.asarray(size**depth * _yun_h(depth, t)))
    np.testing.assert_allclose(xi, size ** (2.0 - depth) * t, rtol=1e-12)


def test_ends_of_the_range_follow_signs_and_factor():
    # related results: W+- = integral of 1/|p| from +-s v_0, s including the sign of the factor.
    start, gaps = np.array([0.4, -0.4, 0.4, -0.4]), np.array([[0.5], [1.5]]) * np.ones((2, 4))
    signs = np.array([[1.0, 1, -1, -1], [1, 1, 1, 1]])
    for factor in (2.0, -2.0):
        lower, upper = DeepDiagonalPotential(start, gaps, signs, factor).dual_domain
        toward = np.sign(factor) * signs.prod(axis=0) * start
        plus, minus = (
            [float(references.integral(v, np.inf, gaps[:, 0])) / 2 for v in side]
            for side in (toward, -toward)
        )
        np.testing.assert_allclose(upper, plus, rtol=1e-14)
        np.testing.assert_allclose(-lower, minus, rtol=1e-14)


def test_scaling_all_layers_scales_the_potential():
    # Q_{alpha u}(theta) = alpha^2 Q_u(theta / alpha^L).
    rng = np.random.default_rng(5)
    layers, theta, alpha = rng.normal(size=(5, 8)), rng.normal(size=8), 2.0**-6
    scaled = potential(DeepDiagonal(alpha * layers)).value(jnp.asarray(theta * alpha**5))
    unscaled = potential(DeepDiagonal(layers)).value(jnp.asarray(theta))
    np.testing.assert_allclose(scaled, alpha**2 * unscaled, rtol=1e-13)


def test_domains_of_ties_and_frozen_coordinates():
    layers = jnp.array([[1.0, -1.0, 0.0, 2.0], [1.0, 1.0, 0.0, 1.0], [2.0, 1.0, 3.0, 3.0]])
    q = potential(DeepDiagonal(layers))
    lower, upper = q.domain
    assert lower.tolist() == [0.0, -np.inf, 0.0, -np.inf]
    assert upper.tolist() == [np.inf, 0.0, 0.0, np.inf]
    theta = jnp.array([0.5, -0.5, 0.0, -1.0])
    assert q.in_domain(theta).tolist() == [True] * 4
    assert q.in_domain(-theta).tolist() == [False, False, True, True]
    xi = q.mirror_map(theta)
    assert xi[2] == 0
    np.testing.assert_allclose(q.inverse_mirror_map(xi.at[2].set(7.0)), theta, rtol=1e-14)
    assert q.hessian_diagonal(theta)[2] == jnp.inf
    # The ends theta = 0 of the ties: v_0^2 / 2 each, as the limit of points inside.
    ends = jnp.array([0.0, 0.0, 0.0, 6.0])
    np.testing.assert_allclose(q.value(ends), 1.0)
    np.testing.assert_allclose(q.bregman(ends, q.start), 1.0)
    slope = jax.grad(lambda w: potential(DeepDiagonal(w)).value(ends))(layers)
    assert jnp.isfinite(slope[:, 3]).all()


def test_known_arguments_outside_of_the_domain_are_errors_and_traced_ones_nan():
    q = potential(DeepDiagonal.balanced(jnp.array([1.0, 8.0, -1.0, 1.0]), 3))
    bad = jnp.array([1.0, -1.0, -1.0, 1.0])
    for method in (q.mirror_map, q.value, q.hessian_diagonal, lambda t: q.bregman(q.start, t)):
        with pytest.raises(ValueError, match=r"coordinate \[1\], but it is -1.0.*`domain`"):
            method(bad)
    high = jnp.where(jnp.arange(4) == 1, q.dual_domain[1], 0)
    message = r"`xi` must be between -inf and .* \[1\].*`dual_domain`"
    for method in (q.inverse_mirror_map, q.conjugate):
        with pytest.raises(ValueError, match=message):
            method(high)

    @eqx.filter_jit
    def traced(q):
        return q.mirror_map(bad), q.inverse_mirror_map(high), q.value(bad)

    slope, theta, value = traced(q)
    assert np.isnan(slope).tolist() == np.isnan(theta).tolist() == [False, True, False, False]
    assert jnp.isnan(value)
    with pytest.raises(ValueError, match="`theta` must have the shape"):
        q.value(jnp.ones(3))
    with pytest.raises(ValueError, match="`smallest`, `gaps` and `signs` must be"):
        DeepDiagonalPotential(jnp.ones(2), jnp.ones((2, 3)), jnp.ones((2, 3)))


def _everything(layers, theta, xi):
    q = potential(DeepDiagonal(layers, 1.3))
    sums = jnp.stack([q.value(theta), q.conjugate(xi), q.bregman(theta, 0.5 * theta + 0.1)])
    vectors = q.mirror_map(theta), q.inverse_mirror_map(xi), q.hessian_diagonal(theta)
    return jnp.concatenate([sums, *vectors])


def test_derivatives_match_finite_differences_without_nan():
    depth = 3
    rng = np.random.default_rng(depth)
    layers = rng.normal(size=(depth, 5))
    layers[-1, 0] = 0.0  # v = 0
    layers[1:, 1] = 2.0  # equal gaps
    layers = jnp.asarray(layers)
    start = 1.3 * jnp.prod(layers, axis=0)
    theta = start + jnp.array([0.3, -0.2, 0.0, 1.0, 0.0])  # two at the start
    theta = theta.at[3].set(0.0)
    xi = jnp.array([0.0, 0.1, -0.05, 0.02, 0.0])
    arguments = layers, theta, xi
    directions = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in arguments)
    cotangent = jnp.asarray(rng.normal(size=18))
    f = _quick_jit(_everything)
    ahead, behind = (
        f(*(x + s * 1e-6 * d for x, d in zip(arguments, directions, strict=True))) for s in (1, -1)
    )
    forward = _quick_jit(lambda x: jax.jvp(_everything, x, directions)[1])(arguments)
    np.testing.assert_allclose(forward, (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)
    gradients = _quick_jit(lambda x: jax.vjp(_everything, *x)[1](cotangent))(arguments)
    reverse = sum(jnp.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(reverse, forward @ cotangent, rtol=1e-11)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_it_exports(platform):
    shapes = tuple(jax.ShapeDtypeStruct(s, jnp.float32) for s in ((3, 4), (4,), (4,)))
    program = jax.vmap(_everything, in_axes=(None, 0, 0))
    batched = (shapes[0], *(jax.ShapeDtypeStruct((5, 4), jnp.float32) for _ in range(2)))
    exported = jax.export.export(jax.jit(program), platforms=[platform])(*batched)
    assert exported.platforms == (platform,)
    assert "custom_call" not in exported.mlir_module()


def test_derivatives_of_a_stack_of_two_layers_lower():
    """The range of xi is infinite: a constant, of which no rule for derivatives may be made."""
    layers = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3)))

    def total(scale):
        potentials = jax.vmap(lambda u: ddln.potential(ddln.DeepDiagonal(scale * u)))(layers)
        return jnp.sum(jax.vmap(lambda q: q.inverse_mirror_map(jnp.full(3, 0.1)))(potentials))

    # theta(xi) = ((u + v)^2 exp(2 xi) - (u - v)^2 exp(-2 xi)) / 4 is of degree 2 in the layers.
    up, down = jnp.square(layers[:, 0] + layers[:, 1]), jnp.square(layers[:, 0] - layers[:, 1])
    theta = jnp.sum(up * np.exp(0.2) - down * np.exp(-0.2)) / 4
    np.testing.assert_allclose(jax.jit(jax.grad(total))(2.0), 2 * 2.0 * theta, rtol=1e-12)
