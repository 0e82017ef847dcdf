"""State evolution against independent solutions.

Also `_fixed_point`, `_moments`, `_nodes` and `agreement_table`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement_table import SETTINGS, line, table_of_page
from scipy import integrate, optimize, stats

import ddln

SPARSE = ddln.Signal.sparse(0.1)
RATIOS = [0.1, 0.2, 0.35, 0.5]
# By Newton's method for v at the nodes of a quadrature in z, split at the kinks, in NumPy.
PUBLISHED = {
    (2, 0.1): [0.8236419790, 0.4819067448, 0.1039915324, 0.0089454638],
    (2, 1.0): [0.8795725772, 0.7080097373, 0.4412718141, 0.2391585895],
    (4, 0.5): [0.8421267915, 0.4341661576, 0.0476527629, 0.0036601633],
}
# From the kernel to the rich regime, from few samples to as many as unknowns.
SCALES = np.repeat([1e-8, 1e-5, 1e-2, 0.3, 1e3], 4)
MANY_RATIOS = np.tile([0.005, 0.1, 0.5, 0.999], 5)


def evolve(depth, scale, ratio, noise, penalty):
    start = ddln.DeepDiagonal.zero_last(jnp.ones(1), depth, scale)
    return ddln.state_evolution(start, SPARSE, ratio, noise, penalty=penalty, throw=False)


def evolved(depth, rows):
    columns = [jnp.asarray(column) for column in np.asarray(rows, float).T]
    return jax.jit(jax.vmap(lambda *row: evolve(depth, *row)))(*columns)


def by_scipy(scale, ratio, noise, penalty):
    """Both equations of two layers, 2 theta = scale^2 sinh(2 xi), by adaptive quadrature."""

    def theta_at(z, gamma):
        top = 1 + abs(z) / gamma
        f = lambda xi: 0.5 * scale**2 * np.sinh(2 * xi) + gamma * xi - z  # noqa: E731
        while f(top) * f(-top) > 0:
            top *= 2
        bound = 0.5 * np.arcsinh(2 * (abs(z) + 1) / scale**2) + 1
        xi = optimize.brentq(f, -min(top, bound), min(top, bound), xtol=1e-15, rtol=1e-15)
        return 0.5 * scale**2 * np.sinh(2 * xi), xi

    def means(s, gamma):
        # The two components: theta* = 0 and theta* ~ N(0, 10).
        totals = np.zeros(2)
        for probability, deviation in ((0.9, 0.0), (0.1, 10**0.5)):
            width = np.hypot(deviation, s)
            keep = deviation**2 / width**2

            def integrand(z, width=width, keep=keep, which=0):
                theta, xi = theta_at(z, gamma)
                metric = scale**2 * np.cosh(2 * xi)
                values = ((theta - keep * z) ** 2, metric / (metric + gamma))
                return values[which] * stats.norm.pdf(z, scale=width)

            for which in range(2):
                half, _ = integrate.quad(
                    lambda z, w=which, f=integrand: f(z, which=w),
                    0,
                    9 * width,
                    epsabs=1e-11,
                    epsrel=1e-10,
                    limit=200,
                )
                totals[which] += probability * 2 * half
            totals[0] += probability * keep * s**2
        return totals

    def equations(x):
        s, gamma = np.exp(x)
        mse, divergence = means(s, gamma)
        return [
            s**2 - noise**2 - mse / ratio,
            ratio * (1 - penalty / gamma) - divergence,
        ]

    return means, equations


# Vanishing starts, below the threshold of recovery and above it.
EDGE = 0.328794  # of `recovery_threshold`
VANISHING = [0.1, 0.2, 0.3, 1.02 * EDGE, 1.2 * EDGE]


def settings_of_page(depth):
    """Scale, ratio, noise and no penalty of the lines of the table of agreement."""
    chosen = [(ratio, pair) for found, ratio, pairs in SETTINGS if found == depth for pair in pairs]
    return [(scale, ratio, noise, 0) for ratio, (scale, noise) in chosen]


@pytest.fixture(scope="module")
def two_layers():
    rows = [(scale, ratio, 0, 0) for scale in (0.1, 1.0) for ratio in RATIOS]
    rows += [(scale, ratio, 0, 0) for scale, ratio in zip(SCALES, MANY_RATIOS, strict=True)]
    rows += [(0.1, 0.35, 0.5, 0), (0.3, 0.5, 0.5, 0.2), (0.3, 1.5, 0.5, 0.2), (0.3, 2.0, 0.5, 0)]
    rows += [(0.1, 1.5, 0, 0), (0.1, -0.5, 0, 0), (jnp.nan, 0.5, 0, 0)]
    rows += [(scale, ratio, 0, 0) for scale in (1e-10, 1e-20) for ratio in VANISHING]
    return evolved(2, [*rows, *settings_of_page(2)])


@pytest.fixture(scope="module")
def four_layers():
    rows = [(0.5, ratio, 0, 0) for ratio in RATIOS]
    rows += [(scale, ratio, 0, 0) for scale, ratio in zip(SCALES, MANY_RATIOS, strict=True)]
    rows += [(1e-5, ratio, 0, 0) for ratio in VANISHING]
    return evolved(4, [*rows, *settings_of_page(4)])


def test_the_page_has_what_its_command_prints(two_layers, four_layers):
    lines = table_of_page()
    for depth, found in ((2, two_layers), (4, four_layers)):
        rows = settings_of_page(depth)
        own = [text for text in lines if text.startswith(f"| {depth} |")]
        for text, (scale, ratio, noise, _), value in zip(
            own, rows, found.mse[-len(rows) :], strict=True
        ):
            mean, error = map(float, text.split(" | ")[5:7])
            printed = line(depth, scale, ratio, noise, value, mean, error).split(" | ")
            assert printed[:7] == text.split(" | ")[:7]
            # Four digits of a standard error of a hundredth.
            assert abs(float(printed[7][:-2]) - float(text.split(" | ")[7][:-2])) < 0.11
    assert len(lines) == sum(len(pairs) for *_, pairs in SETTINGS)


def test_errors_of_zero_last_starts(two_layers, four_layers):
    # The numbers have ten digits.
    np.testing.assert_allclose(two_layers.mse[:4], PUBLISHED[2, 0.1], rtol=0, atol=1e-10)
    np.testing.assert_allclose(two_layers.mse[4:8], PUBLISHED[2, 1.0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(four_layers.mse[:4], PUBLISHED[4, 0.5], rtol=0, atol=2e-10)


def test_solutions_are_found_in_all_regimes(two_layers, four_layers):
    for evolution, first in ((two_layers, 8), (four_layers, 4)):
        assert np.all(ddln.is_okay(evolution.result)[first : first + len(SCALES)])
        # The quadrature, by the integral of the density.
        assert np.nanmax(evolution.stats["mass_error"][first : first + len(SCALES)]) < 1e-9


def test_noise_and_penalty_satisfy_the_equations(two_layers):
    for row, arguments in (
        (28, (0.1, 0.35, 0.5, 0.0)),
        (29, (0.3, 0.5, 0.5, 0.2)),
        (30, (0.3, 1.5, 0.5, 0.2)),
    ):
        means, equations = by_scipy(*arguments)
        s = float(two_layers.effective_noise[row]) ** 0.5
        gamma = float(two_layers.effective_penalty[row])
        # The accuracy of the adaptive quadrature.
        np.testing.assert_allclose(equations(np.log([s, gamma])), 0, atol=1e-8)
        np.testing.assert_allclose(two_layers.mse[row], means(s, gamma)[0], atol=1e-8)
        expected = (s * arguments[3] / gamma) ** 2
        np.testing.assert_allclose(two_layers.training_error[row], expected, rtol=1e-9)


def test_more_samples_than_coordinates_give_least_squares(two_layers):
    # E |theta - theta*|^2 / d = sigma^2 tr (X^T X)^-1 / d -> sigma^2 alpha / (alpha - 1).
    np.testing.assert_allclose(two_layers.mse[31], 0.5, rtol=1e-9)
    # |y - X theta|^2 / n = sigma^2 (1 - d/n).
    np.testing.assert_allclose(two_layers.training_error[31], 0.125, rtol=1e-12)


def test_codes_where_there_is_no_solution(two_layers):
    missing = two_layers.result == ddln.RESULTS.no_fixed_point
    bad = two_layers.result == ddln.RESULTS.nonfinite_initialization
    np.testing.assert_array_equal(missing[31:35], [False, True, True, False])
    np.testing.assert_array_equal(bad[31:35], [False, False, False, True])
    assert np.all(np.isnan(two_layers.mse[32:35]))


def basis_pursuit(ratio, density=0.1):
    """The error of the least l1 norm for the sparse signal: soft thresholding, its moments in closed form."""

    def moments(s, t):
        error = active = 0.0
        for share, variance in ((1 - density, 0.0), (density, 1 / density)):
            v = np.hypot(np.sqrt(variance), s)
            keep, x = variance / v**2, t / v
            tail = 2 * stats.norm.cdf(-x)
            second = 2 * (x * stats.norm.pdf(x) + stats.norm.cdf(-x))
            # E (eta(z) - keep z)^2 inside of the threshold, beyond it, and the variance given z.
            inside = keep**2 * v**2 * (1 - second)
            beyond = (
                (1 - keep) ** 2 * v**2 * second
                - 4 * (1 - keep) * t * v * stats.norm.pdf(x)
                + t**2 * tail
            )
            error += share * (inside + beyond + keep * s**2)
            active += share * tail
        return error, active

    def equations(x):
        error, active = moments(*np.exp(x))
        return [2 * x[0] - np.log(error / ratio), np.log(active / ratio)]

    found = optimize.root(equations, np.log([0.9 / ratio**0.5, 1.0 / ratio**0.5]), tol=1e-13)
    assert found.success
    return moments(*np.exp(found.x))[0]


def test_vanishing_starts_are_basis_pursuit(two_layers, four_layers):
    expected = [basis_pursuit(ratio) for ratio in VANISHING[:3]]
    # The norm is reached with an error of 1 / log(1/scale) for two layers, of scale^2 for four.
    large, small = np.asarray(two_layers.mse)[35:45].reshape(2, 5)
    # The leading term in 1 / log(1/scale) is taken out; the next one is left.
    shares = (small[:3] - expected) / (large[:3] - expected)
    np.testing.assert_allclose(shares[[0, 2]], 0.5, atol=0.05)
    # Without the leading term; the next one is its square.
    np.testing.assert_allclose(2 * small[:3] - large[:3], expected, atol=2e-3)
    mse, l1 = np.asarray(four_layers.mse)[24:29], np.asarray(four_layers.l1)[24:29]
    np.testing.assert_allclose(mse[:3], expected, rtol=1e-7)
    whole = 0.1**0.5 * (2 / np.pi) ** 0.5
    # The elbow: the norm grows until it is that of the signal, and stays.
    assert np.all(np.diff(l1[:3]) > 0)
    assert l1[2] < 0.999 * whole
    np.testing.assert_allclose(l1[3:], whole, rtol=1e-5)
    assert small[4] < 1e-8
    assert mse[4] < 1e-8


def test_one_layer_is_the_least_norm_solution():
    # gamma = (1 - alpha)/alpha and theta = alpha z + (1 - alpha) theta_0.
    theta_0, alpha, sigma = np.array([0.5, -1.0]), 0.4, 0.3
    signal = ddln.Signal([1.0, -2.0], [0.0, 0.5], [0.75, 0.25])
    squares = (np.array([1.0, -2.0])[:, None] - theta_0) ** 2 + np.array([[0.0], [0.25]])
    distance = np.array([0.75, 0.25]) @ squares.mean(axis=1)
    s2 = (sigma**2 + (1 - alpha) ** 2 / alpha * distance) / (1 - alpha)
    end = ddln.state_evolution(
        ddln.Identity(theta_0), signal, alpha, sigma, observe=lambda theta: theta
    )
    np.testing.assert_allclose(end.effective_noise, s2, rtol=1e-10)
    np.testing.assert_allclose(end.effective_penalty, 1.5, rtol=1e-10)
    np.testing.assert_allclose(end.mse, alpha * (s2 - sigma**2), rtol=1e-10)
    mean = alpha * 0.25 + (1 - alpha) * theta_0.mean()
    np.testing.assert_allclose(end.observed, mean, rtol=1e-10)
    energy = 0.75 + 0.25 * 4.25
    np.testing.assert_allclose(
        end.overlap, alpha * energy + (1 - alpha) * theta_0.mean() * 0.25, rtol=1e-10
    )
    np.testing.assert_allclose(end.l2, end.mse + 2 * end.overlap - energy, rtol=1e-10)


def test_arguments_that_do_not_fit():
    start = ddln.DeepDiagonal.zero_last(jnp.ones(2), 2)
    with pytest.raises(ValueError, match="`ratio` must be finite and positive"):
        ddln.state_evolution(start, SPARSE, 0.0)
    with pytest.raises(ValueError, match="`noise` must be finite and not negative"):
        ddln.state_evolution(start, SPARSE, 0.5, -1.0)
    with pytest.raises(ValueError, match="`penalty` must be"):
        ddln.state_evolution(start, SPARSE, 0.5, penalty=-1.0)
    with pytest.raises(ValueError, match="`max_steps` must be at least 1"):
        ddln.state_evolution(start, SPARSE, 0.5, max_steps=0)
    with pytest.raises(ValueError, match="WeightNorm has none"):
        ddln.state_evolution(ddln.WeightNorm(1.0, jnp.ones(2)), SPARSE, 0.5)
    with (
        pytest.warns(UserWarning, match="never move"),
        pytest.raises(ValueError, match="two layers of coordinate 1 are zero"),
    ):
        ddln.state_evolution(ddln.DeepDiagonal([[1.0, 0.0], [0.0, 0.0]]), SPARSE, 0.5)
