"""Every statement on trajectories integrated by SciPy: it holds, and its wrong versions do not."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from theory_cases import KINDS, Case, D, batch, lane, metric, quick_jit, random_cases

from ddln import DeepDiagonal, GeneralizedLinear, Identity, LeastSquares
from ddln.theory import (
    checks,
    conservation,
    metric_lower_bound,
    pl_rate,
    pl_rate_along_path,
    pl_rate_zero_last,
    sign_preservation,
    squared_layer_rate,
    tangent_kernel_rate,
)

TS = np.geomspace(1e-2, 20.0, 300)
DEPTHS = (2, 3, 6)
# Five lanes of each: one of every kind of problem.
RANDOM, ZERO_LAST, BALANCED = slice(0, 5), slice(5, 10), slice(10, 15)

# All batches of one depth have the same shapes, so this compiles once per depth.
run = quick_jit(jax.vmap(checks))


def zero_last(depth):
    cases = random_cases(depth)
    for case in cases:
        case.layers[:] = 0.8 * case.layers[0]
        case.layers[-1] = 0
    return cases


def balanced(depth):
    cases = random_cases(depth)
    for case in cases:
        case.layers[:] = np.abs(case.layers[0])
    return cases


@functools.cache
def flows(depth=3):
    return batch([*random_cases(depth), *zero_last(depth), *balanced(depth)], TS)


@functools.cache
def results(depth=3):
    return run(*flows(depth))


def changed(**rows):
    """The checks of the flows of depth 3 with some of their rows replaced."""
    trajectories, losses = flows()
    layers = rows.pop("layers", trajectories.parameterization.layers)
    names = list(rows)
    trajectories = eqx.tree_at(
        lambda t: [getattr(t, name) for name in names] + [t.parameterization.layers],
        trajectories,
        [rows[name] for name in names] + [layers],
    )
    return run(trajectories, losses)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_statement_holds_where_its_hypotheses_do(depth):
    expected: dict[str, tuple[str, ...]] = dict.fromkeys(results(depth), 3 * ("holds",))
    unmet = "hypothesis not met"
    expected["assumption_a"] = ("holds", "holds", "violated")
    expected["sign_preservation"] = ("holds", "holds", unmet)
    expected["metric_lower_bound"] = ("holds", "holds", unmet)
    expected["pl_rate"] = ("holds", "holds", unmet)
    expected["pl_rate_zero_last"] = (unmet, "holds", unmet)
    # Where signs differ, the minimizer is out of reach of a balanced flow.
    expected["bregman_rate"] = ("holds", "holds", unmet)
    for name, check in results(depth).items():
        assert check.name == name
        for lanes, status in zip((RANDOM, ZERO_LAST, BALANCED), expected[name], strict=True):
            # One lane may move too fast for the saved times.
            spare = name in ("pl_rate_along_path", "tangent_kernel_rate")
            found = check.status[lanes]
            assert np.sum(found == status) >= 5 - spare, check
            assert set(found) <= {status, "inconclusive"}, check


def test_texts():
    assert str(lane(results()["pl_rate"], 0)).startswith("Holds. Compared")
    unmet = str(lane(results()["pl_rate_zero_last"], 0))
    assert unmet.startswith("Hypothesis not met. Not met: one layer is zero and the others have")


def test_sides_of_the_conservation_law():
    trajectories, _ = flows()
    start = np.asarray(trajectories.initial.layers)
    change = np.asarray(trajectories.parameterization.layers) ** 2 - start[:, None] ** 2
    check = results()["conservation"]
    np.testing.assert_allclose(check.lhs, change, atol=1e-13)
    for index in range(5):
        smallest = np.argmin(np.abs(start[index]), axis=0)
        expected = change[index][:, smallest, np.arange(D)][:, None, :]
        np.testing.assert_allclose(check.rhs[index], expected + 0 * change[index], atol=1e-13)
    assert check.tolerance.max() < 1e-7


def test_a_layer_that_passes_zero_has_an_error_too():
    layers = flows()[0].parameterization.layers.at[:, :, -1].set(0)
    assert changed(layers=layers)["conservation"].tolerance.min() > 0


def test_perturbed_layer_breaks_conservation():
    layers = flows()[0].parameterization.layers.at[:, 60:, 1].add(1e-3)
    check = changed(layers=layers)["conservation"]
    assert set(check.status) == {"violated"}
    assert not check.where[:, :60].any()
    # Where the layer is the smallest, it differs from the others; elsewhere it alone differs.
    smallest = np.argmin(np.abs(flows()[0].initial.layers[0]), axis=0)
    expected = [[(smallest[i] == 1) != (j == 1) for i in range(D)] for j in range(3)]
    np.testing.assert_array_equal(check.where[0, 60], expected)


def test_rate_of_the_squares_has_factor_two():
    @quick_jit
    @jax.vmap
    def wrong(trajectory, loss):
        return [squared_layer_rate(trajectory, loss, constant) for constant in (1.0, 2.1)]

    for check in wrong(*flows()):
        assert set(check.status) == {"violated"}


def test_rate_of_the_squares_against_quadrature():
    case, check = random_cases(3)[0], lane(results()["squared_layer_rate"], 0)
    flow = case.solve(TS).sol
    for i in (0, 2):

        def power(t, i=i):
            theta = np.prod(flow(t)[:-D].reshape(3, D), axis=0)
            return -2 * theta[i] * case.gradient(theta)[i]

        exact = quad(power, 0, TS[-1], limit=200, epsabs=1e-10)[0]
        assert abs(exact - check.rhs[-1, 0, i]) <= check.tolerance[-1, 0, i]
        assert abs(exact - check.lhs[-1, 0, i]) < 1e-8


def test_changed_sign_is_seen():
    check = lane(results()["sign_preservation"], 0)
    sizes = jnp.abs(lane(flows()[0], 0).parameterization.layers)
    np.testing.assert_array_equal(check.margin[check.compared], sizes[check.compared])
    larger = results()["sign_preservation"].compared[0, 0]
    j, i = (int(index) for index in np.argwhere(larger)[0])
    layers = flows()[0].parameterization.layers.at[0, 7, j, i].multiply(-1)
    check = lane(changed(layers=layers)["sign_preservation"], 0)
    assert check.status == "violated"
    assert np.argwhere(check.where).tolist() == [[7, j, i]]


def test_smallest_layers_do_change_sign():
    """The statement would be wrong for the smallest layer."""
    crossed = 0
    for depth in DEPTHS:
        layers = np.asarray(flows(depth)[0].parameterization.layers[RANDOM])
        crossed += np.any(np.sign(layers) != np.sign(layers[:, :1]), axis=1).sum()
    assert crossed >= 10


def test_rising_loss_is_seen():
    loss = flows()[0].loss
    check = changed(loss=loss.at[:, 10].multiply(1.1))["monotone_loss"]
    assert np.argwhere(check.where[0]).tolist() == [[10]]
    assert set(check.status) == {"violated"}
    late = changed(loss=loss.at[:, -1].add(1.0))["monotone_loss"]
    assert set(late.status) == {"violated"}


def sigma(network):
    sizes = jnp.sort(jnp.abs(network.layers) ** 2, axis=0)
    return jnp.min(jnp.prod(sizes[1:] - sizes[:1], axis=0))


def least(case):
    return case.loss(np.linalg.lstsq(case.X, case.y)[0])


def pl_constant(case):
    singular = np.linalg.svd(case.X, compute_uv=False)
    return 2 * case.scale * singular[singular > 1e-10].min() ** 2


@pytest.mark.parametrize("depth", [2, 3])
def test_sides_of_the_pl_rate_and_of_the_metric_bound(depth):
    trajectories, _ = flows(depth)
    rate, bound = results(depth)["pl_rate"], results(depth)["metric_lower_bound"]
    smallest = metric(np.asarray(trajectories.parameterization.layers)).min(axis=-1)
    np.testing.assert_allclose(bound.rhs, smallest, rtol=1e-12)
    for index, case in enumerate(random_cases(depth)):
        constant = float(sigma(lane(trajectories.initial, index)))
        np.testing.assert_allclose(bound.lhs[index], constant, rtol=1e-12)
        gap = case.loss(np.prod(case.layers, axis=0)) - least(case)
        expected = np.exp(-2 * constant * pl_constant(case) * TS) * gap
        np.testing.assert_allclose(rate.rhs[index], expected, rtol=1e-9)
        np.testing.assert_allclose(
            rate.lhs[index], trajectories.loss[index] - least(case), atol=1e-13
        )


def test_gaps_below_their_error_are_not_compared():
    trajectories, losses = flows()
    minima = jax.vmap(lambda loss: loss.minimum)(losses)
    loss = jnp.where(jnp.arange(len(TS)) < 200, trajectories.loss, minima[:, None])
    remark = "below its numerical error"
    found = changed(loss=loss)
    for name in ("pl_rate", "pl_rate_along_path"):
        check = found[name]
        assert check.compared[RANDOM, 1:200].all()
        assert not check.compared[:, 200:].any()
        assert remark in str(lane(check, 0))
        assert remark not in str(lane(results()[name], 0))


def test_corollary_names_the_same_sigma():
    """Corollary 1 is Theorem 2 where its hypothesis holds."""
    corollary, theorem = results(6)["pl_rate_zero_last"], results(6)["pl_rate"]
    np.testing.assert_allclose(corollary.rhs[ZERO_LAST], theorem.rhs[ZERO_LAST], rtol=1e-12)


def test_larger_constants_are_refuted(monkeypatch):
    module = "ddln.theory"
    monkeypatch.setattr(f"{module}.rates._pl_rate.sigma", lambda p: 1e5 * sigma(p))
    monkeypatch.setattr(f"{module}.layers._assumption_a.sigma", lambda p: 1e5 * sigma(p))
    monkeypatch.setattr(
        f"{module}.rates._pl_rate.smallest_metric_eigenvalue",
        lambda p: 1e3 * jnp.min(p.metric_diagonal()),
    )

    @quick_jit
    @jax.vmap
    def wrong(trajectory, loss):
        found = (pl_rate, metric_lower_bound, pl_rate_along_path)
        return [check(trajectory, loss) for check in found]

    for check in wrong(*flows()):
        assert set(check.status[RANDOM]) == {"violated"}, check


def test_twice_the_exponent_is_refuted():
    wrong = quick_jit(jax.vmap(lambda t, s: tangent_kernel_rate(t, s, 8.0)))(*flows())
    assert np.sum(wrong.status[RANDOM] == "violated") >= 2


def kernel_rates(case, t, flow):
    """lambda_min(M), and the smallest eigenvalue of the tangent kernel on the range of X."""
    diagonal = metric(flow(t)[:-D].reshape(case.layers.shape))
    values = np.linalg.eigvalsh(case.X @ np.diag(diagonal) @ case.X.T)
    return diagonal.min(), values[-np.linalg.matrix_rank(case.X)]


@pytest.mark.parametrize("kind", KINDS)
def test_integrated_rates_against_quadrature(kind):
    index = KINDS.index(kind)
    case, end = random_cases(3)[index], 200
    flow = case.solve(TS).sol
    gap = case.loss(np.prod(case.layers, axis=0)) - least(case)
    factors = {"pl_rate_along_path": 2 * pl_constant(case), "tangent_kernel_rate": 4 * case.scale}
    for which, (name, factor) in enumerate(factors.items()):

        def rate(t, which=which):
            return kernel_rates(case, t, flow)[which]

        exact = gap * np.exp(-factor * quad(rate, 0, TS[end], limit=200, epsrel=1e-7)[0])
        check = lane(results()[name], index)
        # The right side is that of the largest exponent that the saved times admit.
        assert check.rhs[end] <= exact * (1 + 1e-6)
        assert exact <= check.rhs[end] + check.tolerance[end]
        np.testing.assert_allclose(check.rhs[end], exact, rtol=0.1)


def test_the_bounds_are_ordered():
    """Theorem 2, the same along the path, the tangent kernel: each at least as sharp."""
    for depth in DEPTHS:
        loose, middle, sharp = (
            np.asarray(results(depth)[name].rhs[RANDOM])
            for name in ("pl_rate", "pl_rate_along_path", "tangent_kernel_rate")
        )
        assert np.all(sharp <= middle * 1.001)
        assert np.all(middle <= loose * 1.001)


def test_pl_rate_of_another_loss():
    trajectory, loss = lane(flows(), 0)
    other = GeneralizedLinear(loss.X, loss.y, lambda z, y: (z - y) ** 2, scale=0.5)
    with pytest.raises(ValueError, match="Argument `minimum` must be given for Generalized"):
        pl_rate(trajectory, other)
    constants = float(loss.pl_constant) * jnp.array([1.0, 100.0, 1.0, 0.0])
    minima = jnp.array([0.0, 0.0, 0.1, 0.0])
    check = quick_jit(jax.vmap(lambda mu, low: pl_rate(trajectory, other, mu=mu, minimum=low)))(
        constants, minima
    )
    assert check.status.tolist() == ["holds"] + 3 * ["hypothesis not met"]


def test_one_saved_time_decides_nothing():
    """Seen from the end the flow moved too far for the rate to be integrated."""
    end = batch(random_cases(3, scale=3.0)[:1], np.array([30.0]))
    check = quick_jit(tangent_kernel_rate)(*lane(end, 0))
    assert check.status == "inconclusive"
    assert "too far apart" in str(check)


def test_rows_not_reached_are_ignored():
    trajectories, _ = flows()
    reached = jnp.arange(len(TS)) < 150

    def cut(leaf):
        return jnp.where(reached.reshape(1, -1, *[1] * (leaf.ndim - 2)), leaf, jnp.nan)

    rows = {
        "layers": cut(trajectories.parameterization.layers),
        "theta": cut(trajectories.theta),
        "loss": cut(trajectories.loss),
        "dual": cut(trajectories.dual),
        "ts": jnp.where(reached, trajectories.ts, jnp.inf),
    }
    for name, check in changed(**rows).items():
        whole = results()[name]
        np.testing.assert_array_equal(check.status, whole.status)
        if check.axes[0] == "time":
            assert not check.compared[:, 150:].any()
            np.testing.assert_allclose(
                check.lhs[:, :150], whole.lhs[:, :150], rtol=1e-10, atol=1e-12
            )
            assert np.isfinite(check.lhs).all()
            assert np.isfinite(check.rhs).all()
    nothing = changed(**(rows | {"ts": jnp.full_like(trajectories.ts, jnp.inf)}))
    assert set(nothing["conservation"].status) == {"inconclusive"}


def test_permuted_layers_and_flipped_pairs_of_signs():
    """The symmetries of the network leave verdicts and rates alone."""
    case = random_cases(3)[0]
    signs = np.ones((3, D))
    signs[[0, 2]] = -1
    images = [case.layers, case.layers[[2, 0, 1]], signs * case.layers]
    found = run(*batch([Case(case.X, case.y, layers) for layers in images] * 5, TS))
    for check in found.values():
        assert len(set(check.status)) == 1
        if check.axes == ("time",):
            for image in (1, 2):
                np.testing.assert_allclose(check.lhs[image], check.lhs[0], atol=1e-9)
                np.testing.assert_allclose(check.rhs[image], check.rhs[0], rtol=1e-7)
    rows = np.asarray(found["conservation"].lhs)
    np.testing.assert_allclose(rows[1], rows[0][:, [2, 0, 1]], atol=1e-9)
    np.testing.assert_allclose(rows[2], rows[0], atol=1e-9)


def test_factor():
    """c u^1 u^2 u^3 on X / c from duals / c is the flow of u^1 u^2 u^3 on X."""
    trajectories, losses = flows()
    factor = 1.5
    network = jax.vmap(lambda layers: DeepDiagonal(layers, factor))
    scaled = eqx.tree_at(
        lambda t: (t.initial, t.parameterization, t.theta, t.dual),
        trajectories,
        (
            network(trajectories.initial.layers),
            jax.vmap(network)(trajectories.parameterization.layers),
            factor * trajectories.theta,
            trajectories.dual / factor,
        ),
    )
    losses = eqx.tree_at(lambda loss: loss.X, losses, losses.X / factor)
    for check in (squared_layer_rate, metric_lower_bound, pl_rate):
        found = quick_jit(jax.vmap(check))(scaled, losses)
        np.testing.assert_array_equal(found.status, results()[check.__name__].status)


def test_other_parameterizations_get_what_applies():
    trajectory, loss = lane(flows(), 0)
    plain = eqx.tree_at(
        lambda t: (t.initial, t.parameterization),
        trajectory,
        (Identity(trajectory.theta[0]), jax.vmap(Identity)(trajectory.theta)),
    )
    found = eqx.filter_eval_shape(checks, plain, loss)
    general = {"monotone_loss", "pl_rate_along_path", "tangent_kernel_rate"}
    assert set(found) == general | {"mirror_identity", "mirror_optimality", "bregman_rate"}

    def plain_loss(theta):
        return jnp.sum(theta**2)

    found = eqx.filter_eval_shape(checks, plain, plain_loss)
    assert set(found) == {"monotone_loss", "mirror_identity"}
    for check in (conservation, squared_layer_rate, sign_preservation, metric_lower_bound):
        with pytest.raises(ValueError, match=r"must be a `ddln.DeepDiagonal`"):
            check(plain, loss)
    for check in (pl_rate, pl_rate_zero_last):
        with pytest.raises(ValueError, match=r"must be a `ddln.DeepDiagonal`"):
            check(plain, loss)
    with pytest.raises(ValueError, match=r"must be a `ddln.LeastSquares`"):
        tangent_kernel_rate(plain, plain_loss)
    # Fewer samples than coordinates.
    wide = LeastSquares(loss.X[:3], loss.y[:3])
    assert eqx.filter_eval_shape(tangent_kernel_rate, plain, wide).lhs.shape == TS.shape


def test_one_eigenvalue_call_in_all_checks():
    """Two at the same time can block each other on a CPU."""
    program = jax.make_jaxpr(lambda t, s: checks(t, s))(*lane(flows(), 0))
    assert str(program).count("= eigh[") == 1
