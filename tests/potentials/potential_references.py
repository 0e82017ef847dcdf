"""Independent references: integrals by mpmath at 50 digits, and random hard gaps."""

import mpmath as mp
import numpy as np

DIGITS = 50


def _gauss(count):
    """Gauss-Legendre nodes and weights, refined from float64 by Newton's method."""
    rule = []
    for start in np.polynomial.legendre.leggauss(count)[0]:
        x = mp.mpf(float(start))
        for _ in range(4):
            before, value = mp.mpf(1), x
            for k in range(1, count):
                before, value = value, ((2 * k + 1) * x * value - k * before) / (k + 1)
            slope = count * (x * value - before) / (x * x - 1)
            x -= value / slope
        rule.append((x, 2 / ((1 - x * x) * slope * slope)))
    return rule


with mp.workdps(DIGITS):
    _RULE = _gauss(26)


def _panel(f, left, right):
    half, middle = (right - left) / 2, (right + left) / 2
    return half * mp.fsum(weight * f(middle + half * x) for x, weight in _RULE)


def _one_sided(start, end, gaps):
    """int_start^end dr/rho for 0 <= start < end <= infinity: Gauss in r, log r, then 1/r."""
    roots = [mp.sqrt(gap) for gap in gaps]

    def rho(r):
        return mp.sqrt(mp.fprod(r * r + gap for gap in gaps))

    total, r = mp.mpf(0), start
    if r < min(roots) / 2:
        right = min(end, min(roots) / 2)
        total, r = _panel(lambda x: 1 / rho(x), r, right), right
    while r < end:
        if r >= 3 * max(roots):
            last = mp.mpf(0) if end == mp.inf else 1 / end
            return total + _panel(lambda z: 1 / (z * z * rho(1 / z)), last, 1 / r)
        right = min(end, mp.mpf(1.7) * r)
        total += _panel(lambda t: mp.exp(t) / rho(mp.exp(t)), mp.log(r), mp.log(right))
        r = right
        exponent = sum(r * r / (r * r + gap) for gap in gaps)
        if exponent > 1.1 and r / rho(r) < (exponent - 1) * total * mp.mpf(10) ** -22:
            return total
    return total


def exact(x):
    """A float as the number that it is; multiple-precision numbers and infinities as they are."""
    return x if isinstance(x, mp.mpf) else mp.mpf(float(x))


def integral(start, end, gaps):
    """int_start^end dr / prod_j sqrt(r^2 + gaps_j) for any real start, end (end may be infinite).

    To about 20 digits; floats are taken as exact.
    """
    with mp.workdps(DIGITS):
        gaps = [exact(gap) for gap in gaps]
        start, end = exact(start), exact(end)
        if len(gaps) == 1:
            return mp.asinh(end / mp.sqrt(gaps[0])) - mp.asinh(start / mp.sqrt(gaps[0]))
        if start > end:
            return -integral(end, start, gaps)
        if start >= 0:
            return _one_sided(start, end, gaps)
        if end <= 0:
            return _one_sided(-end, -start, gaps)
        return _one_sided(mp.mpf(0), -start, gaps) + _one_sided(mp.mpf(0), end, gaps)


def rho(v, gaps):
    """prod_j sqrt(v^2 + gaps_j) at 50 digits."""
    with mp.workdps(DIGITS):
        return mp.sqrt(mp.fprod(exact(v) ** 2 + exact(gap) for gap in gaps))


def smallest_layer(theta, gaps):
    """The v with v rho(v) = theta: bisection of log v in float64, then Newton at 50 digits."""
    if theta == 0:
        return mp.mpf(0)
    with mp.workdps(DIGITS):
        size = abs(exact(theta))
        low, high = mp.mpf(10) ** -200, mp.mpf(10) ** 200
        for _ in range(30):
            middle = mp.sqrt(low * high)
            low, high = (middle, high) if middle * rho(middle, gaps) < size else (low, middle)
        v = high
        for _ in range(8):
            slope = 1 + sum(v * v / (v * v + exact(gap)) for gap in gaps)
            v *= mp.exp(-mp.log(v * rho(v, gaps) / size) / slope)
        return mp.sign(exact(theta)) * v


def divergence(theta, reference, gaps):
    """theta xi - (v^2 - v_0^2)/2, and by how much relative rounding of theta is amplified in it."""
    with mp.workdps(DIGITS):
        v, v0 = smallest_layer(theta, gaps), exact(reference)
        xi = integral(v0, v, gaps)
        value = exact(theta) * xi - (v * v - v0 * v0) / 2
        return value, float(abs(exact(theta) * xi / value))


def relative_error(values, references):
    """The largest |value / reference - 1|."""
    with mp.workdps(DIGITS):
        return max(
            abs(float(mp.mpf(float(value)) / reference - 1))
            for value, reference in zip(values, references, strict=True)
        )


def hard_gaps(rng, depth, count, decades):
    """Gaps whose roots spread over `decades` decades, some equal, ascending: [depth - 1, count]."""
    roots = 10 ** (decades * rng.uniform(-0.5, 0.5, (depth - 1, count)))
    roots[:, : count // 8] = roots[:1, : count // 8]
    return np.sort(roots, axis=0) ** 2
