"""Assumption A on starts whose ties are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddln import DeepDiagonal, Identity
from ddln.theory import assumption_a, sigma

# Else each of its operations is compiled for itself.
compiled = eqx.filter_jit(lambda network: (assumption_a(network), sigma(network)))

LAYERS = np.array([[3.0, -1.0, 0.0, 2.0], [-2.0, 1.0, 0.0, 5.0], [4.0, 7.0, 1.0, -2.0 - 1e-9]])


def test_reports_which_layers_tie_where():
    check = assumption_a(DeepDiagonal(LAYERS))
    assert check.status == "violated"
    assert np.argwhere(check.where).tolist() == [[1, 1], [1, 2]]
    assert "never moves" in str(check)


def test_margin_is_the_relative_gap():
    check = assumption_a(DeepDiagonal(LAYERS[:, [0, 3]]))
    assert check.status == "holds"
    assert "never moves" not in str(check)
    margin = np.where(check.compared, check.margin, np.nan)
    expected = [[1 / 3, np.nan], [np.nan, 0.6], [0.5, 1e-9 / 2]]
    np.testing.assert_allclose(margin, expected, rtol=1e-6)


def test_balanced_and_zero_last():
    theta = jnp.array([0.3, -2.0, 1.0])
    for depth in (2, 6):
        assert compiled(DeepDiagonal.balanced(theta, depth))[0].status == "violated"
        assert compiled(DeepDiagonal.zero_last(theta, depth))[0].status == "holds"


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float64, (3, 3), elements=st.integers(-3, 3)))
def test_agrees_with_counting(layers):
    sizes = np.abs(layers)
    unique = [np.sum(column == column.min()) == 1 for column in sizes.T]
    check, least = compiled(DeepDiagonal(layers))
    assert check.status == ("holds" if all(unique) else "violated")
    np.testing.assert_array_equal(~np.any(check.where, axis=0), unique)
    ordered = np.sort(sizes**2, axis=0)
    expected = np.min(np.prod(ordered[1:] - ordered[:1], axis=0))
    np.testing.assert_allclose(least, expected, rtol=1e-14)
    assert (least > 0) == all(unique)


def test_sigma_counts_the_factor():
    layers = np.array([[1.0, 2.0], [3.0, -1.0]])
    assert float(sigma(DeepDiagonal(layers, factor=-2.0))) == 4 * 3.0


def test_batch_and_bad_argument():
    layers = jnp.stack([jnp.asarray(LAYERS), jnp.asarray(LAYERS) + jnp.arange(3.0)[:, None] / 7])
    status = jax.jit(jax.vmap(lambda u: assumption_a(DeepDiagonal(u))))(layers).status
    assert status.tolist() == ["violated", "holds"]
    with pytest.raises(ValueError, match=r"must be a `ddln.DeepDiagonal`, but it is a Identity"):
        assumption_a(Identity(jnp.ones(3)))
