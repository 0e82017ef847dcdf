"""The path of the Lasso against its optimality conditions, at breakpoints and between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln


@pytest.mark.parametrize(("n", "d"), [(6, 11), (12, 5)])
def test_all_solutions_of_the_path_are_optimal(n, d):
    rng = np.random.default_rng(n)
    X, y = rng.normal(size=(40, n, d)), rng.normal(size=(40, n))
    path = jax.jit(jax.vmap(lambda X, y: ddln.lasso_path(X, y, throw=False)))(X, y)
    assert np.all(ddln.is_okay(path.result))
    counts = np.asarray(path.count)
    # Coordinates that leave make more breakpoints than there are coordinates to enter.
    assert counts.max() > min(n, d) + 1
    for lane in range(40):
        penalties, theta = (
            np.asarray(a[lane][: counts[lane]]) for a in (path.penalties, path.theta)
        )
        assert np.all(np.diff(penalties) < 0)
        assert penalties[-1] == 0
        np.testing.assert_allclose(penalties[0], np.max(np.abs(X[lane].T @ y[lane])), rtol=1e-14)
        between = (penalties[1:] + penalties[:-1]) / 2, (theta[1:] + theta[:-1]) / 2
        for penalty, point in zip(
            np.concatenate([penalties, between[0]]),
            np.concatenate([theta, between[1]]),
            strict=True,
        ):
            force = X[lane].T @ (y[lane] - X[lane] @ point)
            assert np.max(np.abs(force)) < penalty + 1e-11
            np.testing.assert_allclose((force * point - penalty * np.abs(point)), 0, atol=1e-11)


def test_the_path_is_that_of_limits_with_weight_decay():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5, 8)), rng.normal(size=5)
    path = ddln.lasso_path(X, y)
    net = ddln.DeepDiagonal(rng.normal(size=(2, 8)), factor=2.0)
    end = ddln.limit(net, ddln.LeastSquares(X, y), weight_decay=0.6)
    np.testing.assert_allclose(path.at(0.3), end.theta, atol=1e-13)
    assert not jnp.any(path.at(1e3))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`y` must have 2 entries"):
        ddln.lasso_path(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match="`max_breakpoints` must be at least 2"):
        ddln.lasso_path(np.ones((2, 3)), np.ones(2), max_breakpoints=1)
    rng = np.random.default_rng(0)
    short = ddln.lasso_path(
        rng.normal(size=(5, 8)), rng.normal(size=5), max_breakpoints=3, throw=False
    )
    assert short.result == ddln.RESULTS.max_steps_reached
