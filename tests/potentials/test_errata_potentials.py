"""Two printed potentials whose gradient is not the inverse that they are meant to be."""

import jax.numpy as jnp
import numpy as np

from ddln.parameterizations import DeepDiagonal
from ddln.potentials import PowerPotential, potential


def _slope(q, theta, step: np.ndarray | float = 1e-6):
    """The gradient of a sum of functions of single coordinates, by central differences."""
    return (q(theta + step) - q(theta - step)) / (2 * step)


def test_equation_19_needs_the_factor_one_quarter():
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 6))
    xi = rng.normal(size=6)
    width = np.abs(u**2 - v**2)
    shift = np.log(np.abs((u + v) / (u - v)))
    # Equation 16: theta = Psi(xi).
    theta = width / 2 * np.sinh(2 * xi + shift)

    def equation_19(t, factor):
        bracket = 2 * t * np.arcsinh(2 * t / width) - np.sqrt(4 * t**2 + width**2) + width
        return factor * bracket - 0.5 * shift * t

    assert np.max(np.abs(_slope(lambda t: equation_19(t, 0.5), theta) - xi)) > 0.1
    np.testing.assert_allclose(_slope(lambda t: equation_19(t, 0.25), theta), xi, rtol=1e-6)
    q = potential(DeepDiagonal(np.stack([u, v])))
    np.testing.assert_allclose(q.mirror_map(jnp.asarray(theta)), xi, rtol=1e-12)


def test_equation_29_needs_the_other_sign_of_the_exponent_and_a_divisor():
    depth = 5
    rng = np.random.default_rng(1)
    u = rng.uniform(0.5, 1.5, 6)
    speed = depth * (depth - 2)
    xi = u ** (2.0 - depth) / speed * rng.uniform(-2, 0.9, 6)
    # Equation 28: theta = Psi(L (L - 2) xi).
    theta = (u ** (2.0 - depth) - speed * xi) ** (-depth / (depth - 2))

    def equation_29(t, exponent, divisor):
        return (u**exponent * t - depth / 2 * t ** (2 / depth)) / divisor

    def error(exponent, divisor):
        slope = _slope(lambda t: equation_29(t, exponent, divisor), theta, 1e-6 * theta)
        return np.max(np.abs(slope / xi - 1))

    printed, corrected = (depth - 2.0, 1.0), (2.0 - depth, speed)
    assert error(*printed) > 0.5
    # Either correction alone is not enough.
    assert error(corrected[0], printed[1]) > 0.5
    assert error(printed[0], corrected[1]) > 0.1
    assert error(*corrected) < 1e-6
    q = PowerPotential(u**depth, depth)
    np.testing.assert_allclose(q.mirror_map(jnp.asarray(theta)), xi, rtol=1e-12)


def test_the_potential_of_half_a_product_needs_other_definitions():
    """The slides print equation 19 for theta = u v / 2, where the paper's Delta_0 and theta_+- fail."""
    rng = np.random.default_rng(2)
    u, v = rng.normal(size=(2, 6))
    q = potential(DeepDiagonal(np.stack([u, v]), factor=0.5))
    theta = u * v / 2 + rng.normal(size=6)
    # The dual along the flow u' = -v g / 2, v' = -u g / 2: (u +- v)^2 grow as exp(+-xi).
    plus, minus = (u + v) ** 2, (u - v) ** 2
    xi = np.log((4 * theta + np.sqrt(16 * theta**2 + plus * minus)) / plus)

    def slides(t, width, ratio):
        bracket = 2 * t * np.arcsinh(2 * t / width) - np.sqrt(4 * t**2 + width**2)
        return 0.5 * (bracket - np.log(ratio) * t)

    def error(width, ratio):
        return np.max(np.abs(_slope(lambda t: slides(t, width, ratio), theta) - xi))

    half = 0.5 * np.abs(u**2 - v**2)
    assert error(half, plus / minus) < 1e-6
    assert error(2 * half, plus / minus) > 0.1
    assert error(half, np.sqrt(plus / minus)) > 0.1
    np.testing.assert_allclose(q.mirror_map(jnp.asarray(theta)), xi, rtol=1e-10)
