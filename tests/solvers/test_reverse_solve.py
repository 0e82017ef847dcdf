"""Cotangents of a structured solve, against those of a dense one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln.solvers._diagonal_plus_low_rank import DiagonalPlusLowRank, Woodbury
from ddln.solvers._reverse_solve import factorized, solved


def cotangents(solve, *arguments):
    value, pull_back = jax.vjp(solve, *arguments)
    return value, pull_back(jax.tree.map(jnp.cos, value))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n", [3, 9])
def test_cotangents_are_those_of_a_dense_solve(n, known):
    rng = np.random.default_rng(n)

    def blocks(low, high):
        return tuple(jnp.asarray(rng.uniform(low, high, 5)) for _ in range(2))

    design = jnp.asarray(rng.normal(size=(n, 5)))
    weight = jnp.asarray(rng.uniform(0, 2, n)).at[0].set(0)
    vector = blocks(-1, 1)
    operator = DiagonalPlusLowRank(blocks(0.5, 2), blocks(0, 1), blocks(0, 1), design, weight)

    core = Woodbury().core(operator) if known else None

    def structured(operator, vector):
        return solved(operator, factorized(operator, core), vector)

    def dense(operator, vector):
        x = jnp.linalg.solve(operator.as_matrix(), jnp.concatenate(vector))
        return x[:5], x[5:]

    found, expected = (
        jax.jit(lambda f=f: cotangents(f, operator, vector))() for f in (structured, dense)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
