"""Li et al. 2022: commuting parameterizations, and their flows as mirror flows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln import theory
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.flows import gradient_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal, MatrixFactorization, PowerDifference, WeightNorm
from ddln.potentials import potential


@claim(id="li2022-commuting")
def commuting(settings: Settings) -> Evidence:
    r"""Definition 4.1: Maps that commute, and maps that do not.

    A map commutes if the gradient fields of its entries have vanishing Lie brackets. Diagonal networks do;
    products of matrices and weight normalization do not.

        \nabla^2 h_i \nabla h_j = \nabla^2 h_j \nabla h_i

    Fixture: random weights; three layers of four entries, $u^3 - v^3$, two matrices of shape 2 by 2, weight
    normalization of two entries.

    As summarized: the norm of brackets relative to those of their terms.
    """

    def normal(seed, *shape):
        return jax.random.normal(jax.random.key(seed), shape)

    separable = (
        DeepDiagonal(normal(0, 3, 4)),
        PowerDifference(jnp.abs(normal(1, 4)), jnp.abs(normal(2, 4)), 3),
    )
    others = (
        MatrixFactorization(normal(3, 2, 2), normal(4, 2, 2)),
        WeightNorm(normal(5), normal(6, 2)),
    )
    sizes = [np.asarray(theory.commutator(one).lhs) for one in (*separable, *others)]
    return Evidence(
        (
            measured(
                "diagonal maps: largest relative bracket", np.concatenate(sizes[:2]), "<=", 1e-12
            ),
            measured("two matrices: largest relative bracket", sizes[2].max(), ">=", 1e-3),
            measured("weight normalization: largest relative bracket", sizes[3].max(), ">=", 1e-3),
        )
    )


@claim(id="li2022-mirror-flow")
def mirror_flow(settings: Settings) -> Evidence:
    r"""Theorem 4.9: The flow of a commuting map is a mirror flow.

    With a commuting and regular map the gradient of one potential of the start, at the parameter, is the
    accumulated gradient, whatever the loss.

        \nabla Q(\theta(t)) = -\int_0^t \nabla \mathcal{L}(\theta(s)) ds

    Fixture: $u^3 - v^3$ from random positive weights, $n = 6$, $d = 10$ least squares.

    As summarized: the dual integrated along the flow of both weights against the potential in closed form.
    """
    key_u, key_v = (
        problems.keys(settings, "li")[:2]
        if settings.problems > 1
        else jax.random.split(jax.random.key(settings.seed))
    )
    start = PowerDifference(
        0.3 + jax.random.uniform(key_u, (10,)), 0.3 + jax.random.uniform(key_v, (10,)), 3
    )
    rng = np.random.default_rng(settings.seed)
    loss = LeastSquares(rng.normal(size=(6, 10)) / 6**0.5, rng.normal(size=6))
    flow = eqx.filter_jit(_flow)(start, loss)
    gradient = np.asarray(potential(start).mirror_map(flow.theta[-1]))
    size = np.abs(gradient).max()
    error = np.abs(gradient - np.asarray(flow.dual[-1])) / size  # pyright: ignore
    return Evidence((measured("largest relative difference", error, "<=", 1e-6),))


def _flow(start, loss):
    return gradient_flow(
        start, loss, 5.0, coordinates="full", rtol=1e-9, atol=1e-12, adjoint=problems.FORWARD
    )


CLAIMS = (commuting, mirror_flow)
