"""Mirror descent in closed form, against the flow by SciPy, and next to gradient descent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import ddln

# Here the time to compile counts, not the time to run.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

RNG = np.random.default_rng(0)
DIM = 5
X = RNG.normal(size=(3, DIM)) / np.sqrt(3)
Y = RNG.normal(size=3)
LOSS = ddln.LeastSquares(X, Y)
POSITIVE = RNG.uniform(0.5, 1.5, DIM)
T1 = 2.0


def test_the_entropic_step_multiplies():
    theta, ts = POSITIVE.copy(), [0, 1, 40]
    run = ddln.mirror_descent(ddln.EntropyPotential(POSITIVE, 2.0), LOSS, 0.1, 40, ts=ts)
    rows = [theta]
    for _ in range(40):
        rows.append(rows[-1] * np.exp(-2 * 0.1 * X.T @ (X @ rows[-1] - Y)))
    np.testing.assert_allclose(run.theta, np.stack(rows)[ts], rtol=1e-12)
    np.testing.assert_allclose(run.dual[-1], np.log(rows[-1] / POSITIVE) / 2, rtol=1e-11)
    np.testing.assert_array_equal(run.ts, ts)
    assert run.result == ddln.RESULTS.successful


# Name: h, the parameterization and the weights of the start.
MAPS = {
    "two layers": (
        lambda w: w[:DIM] * w[DIM:],
        lambda w: ddln.DeepDiagonal(w.reshape(2, DIM)),
        np.concatenate([POSITIVE, -POSITIVE[::-1] / 2]),
    ),
    "cubes": (lambda w: w**3, lambda w: ddln.Power(w, 3), POSITIVE),
}


def by_scipy(effective, weights):
    """theta of the gradient flow of the weights at T1."""

    @jax.jit
    def velocity(w):
        theta, pull_back = jax.vjp(effective, w)
        return -pull_back(X.T @ (X @ theta - Y))[0]

    solution = solve_ivp(
        lambda _, w: np.asarray(velocity(jnp.asarray(w))),
        (0, T1),
        weights,
        "DOP853",
        rtol=1e-11,
        atol=1e-12,
    )
    return effective(solution.y[:, -1])


def order(counts, errors):
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("name", MAPS)
def test_descent_and_mirror_descent_tend_to_the_flow_and_to_each_other(name):
    """Errors of order one in the step, each with a constant of its own."""
    effective, make, weights = MAPS[name]
    parameterization = make(jnp.asarray(weights))
    potential = ddln.potential(parameterization)
    exact, counts = by_scipy(effective, weights), np.array([100, 200, 400])

    def ends(count):
        rate = T1 / count
        descent = ddln.descend(parameterization, LOSS, optax.sgd(rate), count)
        mirror = ddln.mirror_descent(potential, LOSS, rate, count)
        return np.asarray(descent.theta[-1]), np.asarray(mirror.theta[-1])

    descents, mirrors = (np.stack(rows) for rows in zip(*map(ends, counts.tolist()), strict=True))
    for difference in (descents - exact, mirrors - exact, descents - mirrors):
        assert 0.95 < order(counts, np.linalg.norm(difference, axis=1)) < 1.05
    for rows in (descents, mirrors):
        # Twice the next one minus this one leaves the second order.
        better = np.linalg.norm(2 * rows[1:] - rows[:-1] - exact, axis=1)
        assert np.all(better < 0.05 * np.linalg.norm(rows[1:] - exact, axis=1))
    # At finite steps they are different methods.
    assert np.linalg.norm(descents[0] - mirrors[0]) > 1e-4


def test_derivatives_and_lanes_that_leave_the_domain():
    """The xi of a cube is bounded above, and large steps go beyond."""
    start = jnp.asarray(POSITIVE)
    loss = ddln.LeastSquares(X, 10 + Y)
    potential = ddln.PowerPotential(start, 3)

    def end(rate):
        run = ddln.mirror_descent(potential, loss, rate, 30, throw=False)
        return jnp.sum(run.theta[-1] ** 2), run

    values = quick_jit(jax.vmap(jax.value_and_grad(end, has_aux=True)))
    rates = np.array([1e-3, 2e-3, 1.0])
    (_, runs), gradients = values(jnp.asarray(rates))
    codes = [jax.tree.map(lambda leaf, lane=lane: leaf[lane], runs.result) for lane in range(3)]
    assert codes[0] == codes[1] == ddln.RESULTS.successful
    assert codes[2] == ddln.RESULTS.diverged
    lower, upper = (np.asarray(bound) for bound in potential.dual_domain)
    # The last dual of the lane that has diverged is inside, the next one is not.
    xi = np.asarray(runs.dual[2, -1])
    after = xi - 1.0 * X.T @ (X @ np.asarray(runs.theta[2, -1]) - Y - 10)
    assert np.all((xi > lower) & (xi < upper))
    assert not np.all((after > lower) & (after < upper))
    step = 1e-8
    ahead, behind = (values(jnp.asarray(rates + sign * step))[0][0] for sign in (1, -1))
    differences = np.asarray(ahead - behind) / (2 * step)
    np.testing.assert_allclose(gradients[:2], differences[:2], rtol=1e-4)
    assert np.isfinite(gradients).all()
    with pytest.raises(RuntimeError, match="step size is too large"):
        ddln.mirror_descent(potential, loss, 1.0, 30)


BAD = {
    "step size": ({"step_size": 0.0}, "`step_size` must be finite and positive"),
    "steps": ({"steps": 0}, "`steps` must be a whole number, at least 1"),
    "ts": ({"ts": [4]}, "`ts` must lie in"),
    "loss": ({"loss": ddln.LeastSquares(X[:, :2], Y)}, "must have the same theta"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    settings, message = BAD[name]
    arguments = {
        "potential": ddln.EntropyPotential(POSITIVE),
        "loss": LOSS,
        "step_size": 0.1,
        "steps": 3,
    } | settings
    with pytest.raises(ValueError, match=message):
        ddln.mirror_descent(**arguments)
