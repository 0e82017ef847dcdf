"""The random problems of the paper's figures, and case H."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.integrate import solve_ivp

from ddln.problems import case_h, figure_3, figure_4

KEYS = jax.random.split(jax.random.key(1), 300)


FIGURE_4 = jax.jit(figure_4)


def bulk(compiled):
    """Many problems, stacked."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *[compiled(key) for key in KEYS])


def is_standard_normal(sample) -> bool:
    return scipy.stats.kstest(np.ravel(sample), "norm").pvalue > 1e-3


def test_figure_3_in_bulk():
    problems, layers = bulk(jax.jit(figure_3))
    assert problems.X.shape == (300, 10, 5)
    assert problems.y.shape == (300, 10)
    assert layers.shape == (300, 4, 5)
    assert all(is_standard_normal(array) for array in (problems.X, problems.y, layers))
    assert not is_standard_normal(1.1 * layers)
    # X, y and the layers come from different streams.
    assert abs(np.mean(problems.X[:, :4] * layers)) < 5 / np.sqrt(layers.size)
    assert abs(np.mean(problems.y * problems.X[:, :, 0])) < 5 / np.sqrt(problems.y.size)


def test_figure_4_in_bulk():
    problems, layers = bulk(FIGURE_4)
    assert problems.X.shape == (300, 10, 8)
    assert problems.y.shape == (300, 10)
    assert layers.shape == (300, 3, 6, 8)
    np.testing.assert_array_equal(layers[:, :, 0], 0)
    assert is_standard_normal(layers[:, 0, 1:])
    np.testing.assert_allclose(layers[:, 1], 1.4 * layers[:, 0], rtol=1e-15)
    np.testing.assert_allclose(layers[:, 2], 1.8 * layers[:, 0], rtol=1e-15)


def flow_end(problem, layers, t1):
    """Loss above its minimum after the gradient flow of |X theta - y|^2 on the layers, by SciPy."""
    X, y = np.asarray(problem.X), np.asarray(problem.y)

    def field(_, flat):
        u = flat.reshape(layers.shape)
        gradient = 2 * X.T @ (X @ u.prod(axis=0) - y)
        return -np.ravel([np.delete(u, j, axis=0).prod(axis=0) * gradient for j in range(len(u))])

    end = solve_ivp(field, (0, t1), np.ravel(layers), method="LSODA", rtol=1e-8, atol=1e-10)
    theta = end.y[:, -1].reshape(layers.shape).prod(axis=0)
    loss = problem.loss(scale=1.0)
    return float(loss(jnp.asarray(theta)) - loss.minimum)


def test_figure_4_shows_larger_layers_converge_faster():
    problem, layers = FIGURE_4(jax.random.key(1))
    slow, middle, fast = (flow_end(problem, np.asarray(network), 5.0) for network in layers)
    assert fast < middle < slow


def test_case_h_is_the_stated_problem():
    problem, layers = jax.jit(case_h)(jax.random.key(0))
    assert problem.X.shape == (20, 50)
    assert layers.shape == (64, 3, 50)
    expected = np.zeros(50)
    expected[:3] = 1, -1, 0.7
    np.testing.assert_array_equal(problem.theta_true, expected)
    np.testing.assert_allclose(problem.y, problem.X @ expected, atol=1e-14)
    assert is_standard_normal(problem.X * 20**0.5)
    scales = 10 ** np.linspace(-2, 0.3, 64)
    base = np.asarray(layers[-1]) / scales[-1]
    assert is_standard_normal(base)
    np.testing.assert_allclose(layers, scales[:, None, None] * base[None], rtol=1e-12)


@pytest.mark.parametrize(
    "size", [{"d": 2}, {"n": 0}, {"depth": 0}, {"initializations": 0}], ids=lambda size: str(size)
)
def test_case_h_errors(size):
    with pytest.raises(ValueError, match="`d`, `n`, `depth` and `initializations` must be"):
        case_h(jax.random.key(0), **size)


@pytest.mark.parametrize("dtype", ["float32", None])
@pytest.mark.parametrize(
    ("generate", "shape"),
    [
        (figure_3, (4, 5)),
        (figure_4, (3, 6, 8)),
        (partial(case_h, n=4, d=7, depth=5, initializations=9), (9, 5, 7)),
    ],
)
def test_dtype_and_mapping_over_keys(generate, shape, dtype):
    problems, layers = jax.eval_shape(jax.vmap(partial(generate, dtype=dtype)), KEYS)
    for leaf in jax.tree.leaves((problems, layers)):
        assert leaf.dtype == jnp.dtype(dtype or "float64")
        assert leaf.shape[0] == len(KEYS)
    assert layers.shape[1:] == shape
