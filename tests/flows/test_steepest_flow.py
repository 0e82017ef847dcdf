"""Steepest descent in other norms (`_steepest_flow`, `_steepest`, `_steepest_form`)."""

import functools
import itertools

import diffrax
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


DECAY = 0.3


def network(depth):
    return ddln.DeepDiagonal(LAYERS[:depth], FACTOR)


def lane(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


# The starts, data and settings of lanes that share a program.
SIGN_WIDTHS = (1e-3, 1e-4, 1e-5)
TIED_EXPONENTS = (1.0, 1.2, 1.5, 1.8)


@functools.cache
def two_layers():
    """Flows in reduced coordinates: of all exponents, of narrower signs, and of balanced layers, whose
    targets are -1 and 0.5, beside coordinates without data."""
    tied = np.array([0.3, 0.2]) / abs(FACTOR)
    balanced = np.array([[*tied**0.5, 1.0, 1.0, 1.0], [*-(tied**0.5), 0.5, 0.5, 0.5]])
    apart = np.eye(3, 5), np.array([-1.0, 0.5, 0.0])
    kinds = (
        # For q = 1 a width that SciPy's steps resolve, elsewhere next to none.
        [(LAYERS[:2], X, Y, q, 1e-3 if q == 1 else 1e-12, 1.0, 1e-11, 1e-13) for q in EXPONENTS],
        [(LAYERS[:2], X, Y, 1.0, width, 1.0, 1e-7, 1e-9) for width in SIGN_WIDTHS],
        # The width that is chosen for the exponent.
        [
            (balanced, *apart, q, max(1e-4 ** (1 / (2 - q)), 1e-6), 5.0, 1e-6, 1e-9)
            for q in TIED_EXPONENTS
        ],
    )

    @jax.jit
    @jax.vmap
    def of_lane(layers, X, y, exponent, width, t1, rtol, atol):
        return ddln.steepest_flow(
            ddln.DeepDiagonal(layers, FACTOR), ddln.LeastSquares(X, y), t1, exponent=exponent,
            width=width, ts=t1 * TIMES, rtol=rtol, atol=atol, max_steps=100_000, throw=False,
        )  # fmt: skip

    columns = zip(*itertools.chain(*kinds), strict=True)
    found = of_lane(*(jnp.stack([jnp.asarray(x) for x in column]) for column in columns))
    assert np.all(ddln.is_okay(found.result))
    ends = np.cumsum([0, *map(len, kinds)])
    return [lane(found, slice(a, b)) for a, b in itertools.pairwise(ends)]


@functools.cache
def deep(depth, coordinates):
    """The flows of all exponents; in reduced coordinates the one of q = 3 with decay as well."""
    decays = jnp.asarray([0.0, 0.0, 0.0, 0.0, DECAY])
    exponents = jnp.append(EXPONENTS, 3.0)
    if coordinates == "full":
        decays, exponents = jnp.zeros(4), EXPONENTS

    @jax.jit
    @jax.vmap
    def of_exponent(exponent, decay):
        width = jnp.where(exponent == 1, 1e-3, 1e-12)
        return ddln.steepest_flow(
            network(depth), LOSS, 1.0, exponent=exponent, width=width, ts=TIMES,
            weight_decay=decay if coordinates == "reduced" else None, coordinates=coordinates,
            throw=False, **TIGHT,
        )  # fmt: skip

    found = of_exponent(exponents, decays)
    assert np.all(ddln.is_okay(found.result))
    return found


@eqx.filter_jit
def gap_checks(flows):
    return jax.vmap(lambda flow: theory.steepest_gap(flow, LOSS))(flows)


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
def test_flows_agree_with_scipy(depth):
    reduced = two_layers()[0] if depth == 2 else deep(depth, "reduced")
    for i, q in enumerate(EXPONENTS[:3]):
        expected = reference(depth, float(q), 0.2)
        found = reduced.parameterization.layers[i, 1]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-8 if q < 2 else 1e-9)


def test_flows_agree_between_coordinates():
    full, reduced = deep(4, "full"), deep(4, "reduced")
    np.testing.assert_allclose(full.theta[:3], reduced.theta[:3], rtol=0, atol=1e-8)
    # The smoothing of the weights is a matter of full coordinates alone.
    np.testing.assert_allclose(full.theta[3], reduced.theta[3], rtol=0, atol=1e-4)


def test_gaps_are_conserved_along_full_coordinates():
    flows = deep(4, "full")
    layers = np.abs(flows.parameterization.layers)
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
    assert gap_checks(flows).holds.all()
    other = eqx.tree_at(lambda f: f.record.exponent, flows, jnp.asarray([3.0, 3.0, 1.5, 3.0]))
    assert gap_checks(other).violated.all()


def distance_from_rows(dual):
    """The relative distance of a dual from the row space of X."""
    inside = np.asarray(dual) @ np.linalg.pinv(X) @ X
    return np.linalg.norm(dual - inside) / np.linalg.norm(dual)


def test_only_gradient_flow_keeps_its_dual_in_the_row_space():
    """Hence the end of no other flow is a Bregman projection: there xi = X^T nu."""
    duals = deep(3, "reduced").dual
    outside = [distance_from_rows(duals[i, -1]) for i in range(len(EXPONENTS))]
    assert outside[1] < 1e-12
    assert min(outside[0], outside[2], outside[3]) > 0.05


def test_decoupled_decay_shrinks_the_gaps():
    flows = deep(3, "reduced")
    expected = reference(3, 3.0, 1.0, decay=DECAY)
    np.testing.assert_allclose(flows.final.layers[4], expected, rtol=0, atol=1e-9)
    assert gap_checks(flows).holds.all()


def test_gaps_shrink_in_full_coordinates_with_any_schedule():
    """Lambda is integrated for the record: by SciPy 0.3 (1 + sin(2) / 2) after the time 1."""

    def schedule(t):
        return DECAY * (1 + jnp.cos(2 * t))

    flow = ddln.steepest_flow(
        network(2), LOSS, 1.0, exponent=3.0, ts=TIMES, weight_decay=schedule, coordinates="full",
        solver=diffrax.Tsit5(), rtol=1e-9, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(flow.record.decay[-1], DECAY * (1 + np.sin(2) / 2), rtol=1e-12)
    check = theory.steepest_gap(flow, LOSS)
    assert check.status == "holds"
    np.testing.assert_allclose(check.lhs, check.rhs, rtol=0, atol=1e-8)
    other = eqx.tree_at(lambda f: f.record.decay, flow, 0.99 * flow.record.decay)
    assert theory.steepest_gap(other, LOSS).status == "violated"


@functools.cache
def normalized():
    """With speed one and the width that is chosen: q = 3, and all exponents where there is no gradient."""
    flat = ddln.DeepDiagonal.zero_last(jnp.ones(5), 3).layers
    layers = jnp.stack([jnp.asarray(LAYERS[:3]), *[flat] * len(EXPONENTS)])
    targets = jnp.zeros((len(layers), 3)).at[0].set(Y)

    @jax.jit
    @jax.vmap
    def of_lane(layers, y, exponent):
        return ddln.steepest_flow(
            ddln.DeepDiagonal(layers, FACTOR), ddln.LeastSquares(X, y), 1.0, exponent=exponent,
            normalized=True, ts=TIMES, throw=False, **TIGHT,
        )  # fmt: skip

    found = of_lane(layers, targets, jnp.append(3.0, EXPONENTS))
    assert np.all(ddln.is_okay(found.result))
    return found


def test_normalized_flows_have_speed_one():
    reduced = lane(normalized(), 0)
    full = ddln.steepest_flow(
        network(3), LOSS, 1.0, exponent=3.0, normalized=True, ts=TIMES, coordinates="full",
        solver=diffrax.Tsit5(), **TIGHT,
    )  # fmt: skip
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
    layers = normalized().parameterization.layers[1:]
    np.testing.assert_array_equal(layers, np.broadcast_to(layers[:, :1], layers.shape))
    np.testing.assert_array_equal(layers[0, 0, :-1], np.ones((2, 5)))


def test_the_width_that_is_chosen():
    """1e-4^(1/(2-q)), at least 1e-6, and the rounding unit for q >= 2."""
    unit = np.finfo(float).eps
    np.testing.assert_allclose(
        normalized().record.width, [unit, 1e-6, unit, unit, 1e-4], rtol=1e-12
    )


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

    found = two_layers()[1].theta[:, -1]
    off = np.abs(np.asarray(found) - FACTOR * layers.prod(0)).max(axis=1)
    assert off[2] < 2e-3, off
    assert (np.diff(off) < 0).all(), off


def test_balanced_layers_come_to_rest_at_zero():
    """With ties theta keeps its sign: for q < 2 it reaches zero in finite time and stays."""
    found = two_layers()[2]
    assert (found.stats["num_steps"] < 1000).all()
    np.testing.assert_allclose(found.theta[:, -1, :2], [[0, 0.5]] * 4, rtol=0, atol=1e-5)


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
        jax.eval_shape(
            lambda t1: theory.steepest_gap(ddln.gradient_flow(network(2), LOSS, t1), LOSS), 0.1
        )


def test_normalized_flows_tend_to_the_largest_margin_of_their_norm():
    """The largest entry for q = 1, l1 for q = 2, of two layers: by the linear programs."""
    norms = (np.inf, 2.0)
    paths = steepest_layers(2)[[0, 2]]
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
