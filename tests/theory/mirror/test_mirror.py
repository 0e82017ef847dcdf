"""The statements on the potential, on trajectories integrated by SciPy."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, simpson
from scipy.optimize import minimize
from theory_cases import D, batch, lane, quick_jit, random_cases

from ddln import DeepDiagonal, GeneralizedLinear, LeastSquares
from ddln.potentials import potential
from ddln.potentials._separable import AbstractSeparablePotential
from ddln.theory import bregman_decrease, bregman_rate, mirror_identity, mirror_optimality

TS = np.geomspace(1e-2, 40.0, 60)


def dual_by_quadrature(layers, theta):
    """grad Q(theta) = int dv / prod_j sqrt(v^2 + gap_j), per coordinate, by SciPy."""
    dual = np.zeros(D)
    for i in range(D):
        order = np.argsort(np.abs(layers[:, i]))
        start, others = layers[order[0], i], layers[order[1:], i]
        sign = np.prod(np.sign(others))

        def speed(v, start=start, others=others, sign=sign):
            return sign * np.prod(np.sqrt(v**2 + others**2 - start**2))

        low, high = -1e3, 1e3
        for _ in range(200):
            middle = (low + high) / 2
            below = middle * abs(speed(middle)) < sign * theta[i]
            low, high = (middle, high) if below else (low, middle)
        dual[i] = quad(lambda v: 1 / speed(v), start, low, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
    return dual


@functools.cache
def flows():
    """Five random starts, a balanced one, and one with two layers at zero at a coordinate."""
    balanced, frozen = random_cases(3, seed=1)[:2]
    balanced.layers[:] = np.abs(balanced.layers[0])
    frozen.layers[:2, 1] = 0
    return batch([*random_cases(3), balanced, frozen], TS)


def all_checks(trajectory, loss):
    found = [
        check(trajectory, loss)
        for check in (mirror_identity, mirror_optimality, bregman_rate, bregman_decrease)
    ]
    return {check.name: check for check in found}


# All tests share the shapes of this call.
run = quick_jit(jax.vmap(all_checks))


@functools.cache
def results():
    return run(*flows())


def test_they_hold():
    for name, check in results().items():
        assert set(check.status[:5]) == {"holds"}, check
        # The balanced flow keeps its signs, which are not those of the minimizer of smallest norm;
        # there is another one that has them.
        expected = "hypothesis not met" if name == "bregman_decrease" else "holds"
        assert check.status[5] == expected, check
        assert check.status[6] == "hypothesis not met", check


def test_mirror_map_by_quadrature():
    check = results()["mirror_identity"]
    trajectories, _ = flows()
    for index, row in ((0, 59), (3, 30)):
        theta = np.asarray(trajectories.theta[index, row])
        expected = dual_by_quadrature(random_cases(3)[index].layers, theta)
        np.testing.assert_allclose(check.lhs[index, row], expected, rtol=1e-8)
        np.testing.assert_allclose(check.rhs[index, row], expected, rtol=1e-7, atol=1e-9)


def test_other_points_violate_them():
    """Moving theta, the dual or the start by a thousandth is seen."""
    trajectories, losses = flows()
    moved = eqx.tree_at(lambda t: t.theta, trajectories, 1.001 * trajectories.theta)
    for name in ("mirror_identity", "mirror_optimality"):
        underdetermined = run(moved, losses)[name].status[0]
        assert underdetermined == "violated"
    start = eqx.tree_at(
        lambda t: t.initial.layers, trajectories, 1.001 * trajectories.initial.layers
    )
    assert set(run(start, losses)["mirror_identity"].status[:5]) == {"violated"}
    dual = eqx.tree_at(lambda t: t.dual, trajectories, 1.001 * trajectories.dual)
    assert set(run(dual, losses)["mirror_identity"].status[:5]) == {"violated"}


def test_the_start_is_not_compared_with_the_rate():
    trajectories, losses = flows()
    early = eqx.tree_at(lambda t: t.ts, trajectories, trajectories.ts.at[:, 0].set(0))
    check = run(early, losses)["bregman_rate"]
    assert not check.compared[:, 0].any()
    assert check.compared[:, 1:].all()


def test_end_point_has_the_smallest_potential():
    """The end of the underdetermined flow against SLSQP from another interpolating point."""
    case = random_cases(3)[0]
    trajectory, _ = lane(flows(), 0)
    X, y = case.X[:3], case.y[:3]
    network = DeepDiagonal(case.layers)
    Q = potential(network)
    value = quick_jit(jax.value_and_grad(Q.value))

    def objective(theta):
        q, slope = value(jnp.asarray(theta))
        return float(q), np.asarray(slope)

    end = np.asarray(trajectory.theta[-1])
    constraint = {"type": "eq", "fun": lambda theta: X @ theta - X @ end, "jac": lambda _: X}
    start = np.linalg.lstsq(X, X @ end)[0]
    found = minimize(
        objective, start, jac=True, method="SLSQP", constraints=[constraint],
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert objective(start)[0] > objective(end)[0] + 1e-3
    np.testing.assert_allclose(found.fun, objective(end)[0], rtol=1e-7)
    np.testing.assert_allclose(found.x, end, atol=1e-4)
    assert np.max(np.abs(X @ end - y)) < 1e-2


def test_sides_of_the_bregman_rate():
    check = results()["bregman_rate"]
    for index in (2, 3):  # one minimizer only
        case = random_cases(3)[index]
        minimizer = np.linalg.lstsq(case.X, case.y)[0]
        dual = dual_by_quadrature(case.layers, minimizer)
        scales = np.linspace(0, 1, 41)
        theta0 = np.prod(case.layers, axis=0)
        # Q by integrating its gradient along the segment from the start.
        away = minimizer - theta0
        slopes = [dual_by_quadrature(case.layers, theta0 + s * away) @ away for s in scales]
        divergence = simpson(slopes, x=scales)
        np.testing.assert_allclose(check.rhs[index] * TS, divergence, rtol=2e-3)
        np.testing.assert_allclose(slopes[-1], dual @ away, rtol=1e-12)
        gap = flows()[0].loss[index] - case.loss(minimizer)
        np.testing.assert_allclose(check.lhs[index], gap, atol=1e-13)


def test_a_smaller_divergence_is_refuted(monkeypatch):
    """Integrated, the loss makes up half of the divergence: a twentieth of it is no bound."""
    original = AbstractSeparablePotential.value
    monkeypatch.setattr(
        AbstractSeparablePotential, "value", lambda self, theta: 0.05 * original(self, theta)
    )
    wrong = quick_jit(jax.vmap(lambda t, s: bregman_decrease(t, s)))(*flows())
    assert set(wrong.status[2:4]) == {"violated"}


def test_other_points_and_losses():
    trajectory, loss = lane(flows(), 0)
    other = GeneralizedLinear(loss.X, loss.y, lambda z, y: (z - y) ** 2, scale=0.5)
    with pytest.raises(ValueError, match="Argument `minimizer` must be given for Generalized"):
        bregman_rate(trajectory, other)
    with pytest.raises(ValueError, match=r"must be a `ddln.AbstractPredictionLoss`"):
        mirror_optimality(trajectory, lambda theta: jnp.sum(theta))
    wide = LeastSquares(loss.X[:3], loss.y[:3])
    assert eqx.filter_eval_shape(mirror_optimality, trajectory, wide).lhs.shape == (len(TS), D)
    concave = GeneralizedLinear(loss.X, loss.y, lambda z, y: -((z - y) ** 2))

    @quick_jit
    @jax.vmap
    def both(point):
        return bregman_rate(trajectory, other, point), bregman_rate(trajectory, concave, point)

    # The bound is true of any point, minimizer or not, but needs a convex loss.
    points = jnp.stack([loss.minimizer, 0.5 * loss.minimizer + 0.1])
    convex, wrong = both(points)
    assert convex.status.tolist() == ["holds", "holds"]
    assert wrong.status.tolist() == ["hypothesis not met", "hypothesis not met"]
