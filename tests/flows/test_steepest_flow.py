"""Steepest descent in other norms (`_steepest_flow`, `_steepest`, `_steepest_form`)."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizers_table import (
    ENDS,
    MARGINS,
    PAGE,
    end_rows,
    margin_ratio,
    margin_rows,
    steepest_layers,
)
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5))
Y = RNG.normal(size=3)
LOSS = ddln.LeastSquares(X, Y)
LAYERS = RNG.choice([-1.0, 1.0], (4, 5)) * RNG.uniform(0.5, 1.5, (4, 5))
EXPONENTS = jnp.asarray([1.5, 2.0, 3.0, 1.0])
TIMES = jnp.asarray([0.0, 0.2, 1.0])
TIGHT = {"rtol": 1e-11, "atol": 1e-13, "max_steps": 30_000}
FACTOR = -0.8


def network(depth):
    return ddln.DeepDiagonal(LAYERS[:depth], FACTOR)


@functools.cache
def flows(depth, coordinates):
    """The flows of all exponents, in one program."""

    @jax.jit
    @jax.vmap
    def of_exponent(exponent):
        # For q = 1 a width that SciPy's steps resolve, elsewhere next to none.
        width = jnp.where(exponent == 1, 1e-3, 1e-12)
        return ddln.steepest_flow(
            network(depth), LOSS, 1.0, exponent=exponent, width=width, ts=TIMES,
            coordinates=coordinates, throw=False, **TIGHT,
        )  # fmt: skip

    found = of_exponent(EXPONENTS)
    assert np.all(ddln.is_okay(found.result))
    return found


def power(x, q, width=0.0, scale=1.0):
    if width == 0:
        return np.sign(x) * np.abs(x) ** (q - 1)
    return scale ** (q - 2) * x * ((x / scale) ** 2 + width**2) ** (q / 2 - 1)


def others_of(layers):
    return FACTOR * np.stack([np.delete(layers, j, 0).prod(0) for j in range(len(layers))])


def reference(depth, q, t1, decay=0.0, width=0.0):
    """The layers at t1 by SciPy, from the gradient of each weight."""
    start = LAYERS[:depth]
    scale = np.abs(X.T @ (X @ (FACTOR * start.prod(0)) - Y)).max()

    def velocity(t, w):
        layers = w.reshape(start.shape)
        g = X.T @ (X @ (FACTOR * layers.prod(0)) - Y)
        # phi(g P) is the product of the powers; only that of g is smoothed.
        return (-power(g, q, width, scale) * power(others_of(layers), q) - decay * layers).ravel()

    method = "LSODA" if width else "DOP853"
    solution = solve_ivp(velocity, (0, t1), start.ravel(), method=method, rtol=1e-11, atol=1e-13)
    return solution.y[:, -1].reshape(start.shape)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_flows_agree_with_scipy_and_between_coordinates(depth):
    full, reduced = flows(depth, "full"), flows(depth, "reduced")
    for i, q in enumerate(EXPONENTS[:3]):
        expected = reference(depth, float(q), 0.2)
        found = reduced.parameterization.layers[i, 1]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-8 if q < 2 else 1e-9)
    np.testing.assert_allclose(full.theta[:3], reduced.theta[:3], rtol=0, atol=1e-8)
    # The smoothing of the weights is a matter of full coordinates alone.
    np.testing.assert_allclose(full.theta[3], reduced.theta[3], rtol=0, atol=1e-4)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_gaps_are_conserved_along_full_coordinates(depth):
    layers = np.abs(flows(depth, "full").parameterization.layers)
    q = np.asarray(EXPONENTS)[:, None, None, None]
    powers = layers**q
    change = powers - powers[:, :1]
    gap = np.abs(change - change[:, :, :1]).max(axis=(1, 2, 3)) / powers.max(axis=(1, 2, 3))
    assert (gap[:3] < 1e-10).all(), gap
    # While one layer changes sign another misses 1e-8 over a product of the others.
    assert gap[3] < 1e-6
    squares = np.square(layers) - np.square(layers[:, :1])
    wrong = np.abs(squares - squares[:, :, :1]).max(axis=(1, 2, 3))
    assert (wrong[[0, 2, 3]] > 1e-2).all()  # the law of gradient flow is another one
    checks = [
        jax.tree.map(lambda leaf, i=i: leaf[i], flows(depth, "full")) for i in range(len(EXPONENTS))
    ]
    for flow in checks:
        assert theory.steepest_gap(flow, LOSS).status == "holds"
    other = eqx.tree_at(lambda f: f.record.exponent, checks[2], jnp.asarray(1.5))
    assert theory.steepest_gap(other, LOSS).status == "violated"


def distance_from_rows(dual):
    """The relative distance of a dual from the row space of X."""
    inside = np.asarray(dual) @ np.linalg.pinv(X) @ X
    return np.linalg.norm(dual - inside) / np.linalg.norm(dual)


def test_only_gradient_flow_keeps_its_dual_in_the_row_space():
    """Hence the end of no other flow is a Bregman projection: there xi = X^T nu."""
    duals = flows(3, "reduced").dual
    outside = [distance_from_rows(duals[i, -1]) for i in range(len(EXPONENTS))]
    assert outside[1] < 1e-12
    assert min(outside[0], outside[2], outside[3]) > 0.05


DECAY = 0.3


@functools.cache
def decayed():
    """Flows of q = 3 with decoupled decay, and normalized in both coordinates."""
    start = network(3)

    def flow(**settings):
        return ddln.steepest_flow(start, LOSS, 1.0, exponent=3.0, ts=TIMES, **settings, **TIGHT)

    return (
        flow(weight_decay=DECAY),
        flow(normalized=True),
        flow(normalized=True, coordinates="full"),
    )


def test_decoupled_decay_shrinks_the_gaps():
    reduced, *_ = decayed()
    expected = reference(3, 3.0, 1.0, decay=DECAY)
    np.testing.assert_allclose(reduced.final.layers, expected, rtol=0, atol=1e-9)
    assert theory.steepest_gap(reduced, LOSS).status == "holds"


def test_gaps_shrink_in_full_coordinates_with_any_schedule():
    """Lambda is integrated for the record: by SciPy 0.3 (1 + sin(2) / 2) after the time 1."""

    def schedule(t):
        return DECAY * (1 + jnp.cos(2 * t))

    flow = ddln.steepest_flow(
        network(2), LOSS, 1.0, exponent=3.0, ts=TIMES, weight_decay=schedule, coordinates="full",
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(flow.record.decay[-1], DECAY * (1 + np.sin(2) / 2), rtol=1e-12)
    check = theory.steepest_gap(flow, LOSS)
    assert check.status == "holds"
    np.testing.assert_allclose(check.lhs, check.rhs, rtol=0, atol=1e-8)
    other = eqx.tree_at(lambda f: f.record.decay, flow, 0.99 * flow.record.decay)
    assert theory.steepest_gap(other, LOSS).status == "violated"


def test_normalized_flows_have_speed_one():
    *_, reduced, full = decayed()
    np.testing.assert_allclose(reduced.theta, full.theta, rtol=0, atol=1e-8)

    def velocity(t, w):
        layers = w.reshape(3, 5)
        g = X.T @ (X @ (FACTOR * layers.prod(0)) - Y)
        d = (g * others_of(layers)).ravel()
        return -power(d, 3.0) / np.sum(np.abs(d) ** 3) ** (2 / 3)

    w = solve_ivp(
        velocity, (0, 0.2), LAYERS[:3].ravel(), method="DOP853", rtol=1e-11, atol=1e-13
    ).y[:, -1]
    found = reduced.parameterization.layers[1]
    np.testing.assert_allclose(found, w.reshape(3, 5), rtol=0, atol=1e-9)
    p = 1.5
    np.testing.assert_allclose(np.sum(np.abs(velocity(0, w)) ** p) ** (1 / p), 1, rtol=1e-12)


def test_flows_without_gradient_stay():
    """Where the direction is not defined nothing moves, with speed one either."""
    start = ddln.DeepDiagonal.zero_last(jnp.ones(5), 2)
    reached = ddln.LeastSquares(X, np.zeros(3))

    @jax.jit
    @jax.vmap
    def ends(exponent):
        return ddln.steepest_flow(
            start, reached, 1.0, exponent=exponent, normalized=True, throw=False
        )

    found = ends(EXPONENTS)
    assert np.all(ddln.is_okay(found.result))
    layers = found.parameterization.layers[:, -1]
    np.testing.assert_array_equal(layers, np.stack([start.layers] * len(EXPONENTS)))


def test_sign_flow_by_its_closed_form():
    """One weight moves at speed one to its target; the smoothing delays it by the order of its width."""
    loss = ddln.LeastSquares(jnp.eye(2), jnp.asarray([1.0, -0.5]))
    start = ddln.Identity(jnp.zeros(2))

    @jax.jit
    @jax.vmap
    def ends(width):
        return ddln.steepest_flow(
            start, loss, 2.0, exponent=1.0, width=width, ts=[0.25, 2.0], rtol=1e-9, throw=False
        ).theta

    widths = np.array([1e-2, 1e-4, 1e-6])
    theta = np.asarray(ends(widths))
    # -sign(d) smoothed is short of one by width^2 / (2 d^2).
    off = np.abs(theta[:, 0] - [0.25, -0.25]).max(axis=1)
    assert (off < widths**2 + 1e-12).all()
    np.testing.assert_allclose(theta[:, 1], [[1.0, -0.5]] * 3, rtol=0, atol=1e-6)


def test_sign_flow_agrees_with_small_steps_of_sign_descent():
    """The inclusion by its other discretization, across changes of sign of layers and of grad L."""
    layers, h = LAYERS[:2].copy(), 2e-5
    for _ in range(round(1.0 / h)):
        g = X.T @ (X @ (FACTOR * layers.prod(0)) - Y)
        layers -= h * np.sign(g * others_of(layers))

    @jax.jit
    @jax.vmap
    def ends(width):
        return ddln.steepest_flow(
            network(2), LOSS, 1.0, exponent=1.0, width=width, max_steps=100_000, throw=False,
            rtol=1e-7,
        ).theta[-1]  # fmt: skip

    widths = [1e-3, 1e-4, 1e-5]
    off = np.abs(np.asarray(ends(jnp.asarray(widths))) - FACTOR * layers.prod(0)).max(axis=1)
    assert off[2] < 2e-3, off
    assert (np.diff(off) < 0).all(), off


def test_balanced_layers_come_to_rest_at_zero():
    """With ties theta keeps its sign: for q < 2 it reaches zero in finite time and stays."""
    loss = ddln.LeastSquares(jnp.eye(2), jnp.asarray([-1.0, 0.5]))
    start = ddln.DeepDiagonal.balanced(jnp.asarray([0.3, 0.2]), 2)

    @jax.jit
    @jax.vmap
    def ends(q):
        return ddln.steepest_flow(start, loss, 5.0, exponent=q, max_steps=1000, throw=False)

    found = ends(jnp.asarray([1.0, 1.2, 1.5, 1.8]))
    assert np.all(ddln.is_okay(found.result))
    np.testing.assert_allclose(found.theta[:, -1], [[0, 0.5]] * 4, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exponent": 0.5}, "`exponent` must be at least 1"),
        ({"exponent": np.nan}, "`exponent` must be finite"),
        ({"width": 0.0}, "`width` must be finite and positive"),
        ({"weight_decay": -1.0}, "`weight_decay` must be finite and not negative"),
        ({"coordinates": "polar"}, "`coordinates` must be one of"),
        (
            {"start": ddln.Square(jnp.ones(5)), "coordinates": "reduced"},
            "`coordinates` must be 'full'",
        ),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    arguments = {"exponent": 1.5, "start": network(2), **settings}
    start = arguments.pop("start")
    with pytest.raises(ValueError, match=message):
        ddln.steepest_flow(start, LOSS, 1.0, **arguments)


def test_the_check_wants_its_flow():
    with pytest.raises(ValueError, match=r"must be a `ddln\.steepest_flow`"):
        theory.steepest_gap(ddln.gradient_flow(network(2), LOSS, 0.1), LOSS)


def test_normalized_flows_tend_to_the_largest_margin_of_their_norm():
    """The largest entry for q = 1, l1 for q = 2, of two layers: by the linear programs."""
    norms = (np.inf, 2.0)
    paths = steepest_layers(2, (1.0, 2.0), [1.0, 10.0, 100.0])
    for path, p, other in zip(paths, norms, norms[::-1], strict=True):
        found = [margin_ratio(layers, p) for layers in path]
        assert all(norm == p / 2 for norm, _ in found)
        ratios = [ratio for _, ratio in found]
        assert ratios[0] < ratios[1] < ratios[2] <= 1 + 1e-6
        assert ratios[2] > 0.99
        # The other norm has another direction.
        assert margin_ratio(path[-1], other)[1] < 0.9


@pytest.mark.parametrize(("marks", "rows"), [(MARGINS, margin_rows), (ENDS, end_rows)])
def test_the_page_has_the_tables(marks, rows):
    begin, end = marks
    printed = PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    with jax.numpy_dtype_promotion("standard"):  # as optax needs it
        expected_rows = rows().strip().split("\n")
    titles = [title.strip() for title in expected_rows[0].split("|")]
    printed_rows = printed.strip().split("\n")
    for line, expected in zip(printed_rows, expected_rows, strict=True):
        for title, cell, value in zip(titles, line.split("|"), expected.split("|"), strict=True):
            try:
                there, here = float(cell), float(value)
            except ValueError:
                assert cell == value
                continue
            if (
                title == "misalignment"
            ):  # of ends that are not quite stationary: its order of magnitude
                assert there < 1e-6 > here or 0.1 < there / here < 10
            else:
                assert there == pytest.approx(here, rel=0.03)
