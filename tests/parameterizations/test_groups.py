"""Groups with shared gates and tied layers (`_groups`): structure, limits, diagnosis and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
GATES = RNG.normal(size=(2, 2))
VECTOR = RNG.normal(size=3)
GROUPS = [[0, 2], [1]]
SHARED = ddln.Grouped(GATES, VECTOR, GROUPS)
SINGLE = ddln.Grouped(RNG.normal(size=(2, 3)), VECTOR, [[2], [0], [1]])
TIED = ddln.Tied(RNG.normal(size=(2, 3)), [2, 1], 0.5)


def test_groups_of_one_and_tied_layers_are_networks():
    for start in (SINGLE, TIED):
        network, coordinates = start.network(), start.reduced()
        assert coordinates is not None
        np.testing.assert_allclose(network.effective(), start.effective(), rtol=1e-13)
        np.testing.assert_allclose(network.metric_diagonal(), start.metric_diagonal(), rtol=1e-13)
        # At the start the weights themselves.
        leaves = coordinates.weights(coordinates.start)
        for leaf, expected in zip(leaves, jax.tree.leaves(start), strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-13)
    assert SHARED.reduced() is None
    assert not SHARED.separable
    assert ddln.Grouped(GATES[0], VECTOR, GROUPS).gates.shape == (1, 2)


def test_the_norm_of_vanishing_tied_layers_keeps_the_sign_of_a_tie():
    # Coordinate 0: u / sqrt(2) is the smallest and keeps its sign. Coordinate 1: v is, and is free.
    weights = ddln.l1_weights(ddln.Tied([[0.5, 2.0], [3.0, 0.5]], [2, 1]))
    assert np.isinf(np.asarray(weights)).tolist() == [[False, False], [True, False]]


def test_diagnosis():
    shared = theory.diagnose(SHARED)
    assert (shared.separable, shared.mirror_flow, shared.potential) == (False, "no", "none")
    # Two gates for each group, and in each the norm of its part of the vector.
    assert shared.conservation.count == 4
    assert shared.homogeneity == 3
    tied = theory.diagnose(TIED)
    assert (tied.separable, tied.mirror_flow, tied.potential) == (True, "yes", "closed form")
    assert tied.conservation.count == 3


def test_limit_of_a_group_conserves_its_balance():
    X, y = RNG.normal(size=(2, 3)), RNG.normal(size=2)
    end = ddln.limit(SHARED, ddln.LeastSquares(X, y))
    assert end.method == "flow"
    np.testing.assert_allclose(X @ end.theta, y, atol=1e-7)
    after = end.parameterization

    def balance(p):
        v = jnp.square(p.vector)
        return jnp.square(p.gates) - jnp.stack([v[0] + v[2], v[1]])[None]

    np.testing.assert_allclose(balance(after), balance(SHARED), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ddln.Grouped(GATES, VECTOR, [[0], [1]]), r"must cover all coordinates, but \[2\]"),
        (lambda: ddln.Grouped(GATES, VECTOR, [[0, 2], [1, 2]]), r"must not overlap, but .* \[2\]"),
        (
            lambda: ddln.Grouped(GATES, VECTOR, [[0, 3], [1, 2]]),
            r"from 0 to 2, but group 0 has \[3\]",
        ),
        (lambda: ddln.Grouped(GATES, VECTOR, [[0, 1, 2], []]), "at least one integer"),
        (lambda: ddln.Grouped(GATES, VECTOR, [np.array([0.0, 1.0, 2.0])]), "at least one integer"),
        (lambda: ddln.Grouped(GATES, VECTOR, [[0, 1, 2]]), "one column for each of the 1 groups"),
        (
            lambda: ddln.Grouped(GATES.astype(np.float32), VECTOR, GROUPS),
            "must have the dtype float32",
        ),
        (lambda: ddln.Grouped(GATES[None], VECTOR, GROUPS), r"the axes \[K, G\]"),
        (lambda: ddln.Tied(GATES, [2]), "a positive integer for each of the 2 layers"),
        (lambda: ddln.Tied(GATES, [2, 0]), "a positive integer for each"),
        (lambda: ddln.Tied(GATES, np.array([2, 1.5])), "A real power is"),
        (lambda: ddln.Tied(GATES[:1], [1]), "at least twice in all"),
        (lambda: ddln.Tied(GATES, [2, 1], 0.0), "`factor` must be finite and not zero"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
