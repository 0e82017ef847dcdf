"""Section 2.2 and Appendix A.4: the structure behind Theorem 1."""

import jax
import jax.numpy as jnp
import numpy as np

from ddln import theory
from ddln._types import Array, Float
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, checked, measured
from ddln.parameterizations import DeepDiagonal

DEPTH, DIM = 3, 4


def _map(w: Float[Array, " Ld"]) -> Float[Array, " d"]:
    """G: the weights of one coordinate stand together, and so do their indices."""
    return DeepDiagonal(w.reshape(DIM, DEPTH).T).effective()


@claim(id="paper-equation-9", equations=(9, 33))
def gradients(settings: Settings) -> Evidence:
    r"""Eqs. (9), (33): The map of the network and its gradients.

    With all weights in one vector, coordinate after coordinate, each coordinate of the map is the product
    of a block of its own, and its gradient has the products of the other weights of the block.

        G_i(w) = \prod_{j=(i-1)L+1}^{iL} w_j, \qquad (\nabla G_i(w))_j = \prod_{k=(i-1)L+1, k \neq j}^{iL}
        w_k \text{ in the block, else } 0

    Labarrière et al. 2024, equations 9 and 33, against automatic differentiation.
    """
    weights = problems.each(_weights, problems.keys(settings, "map"))
    value = problems.each(_map, weights)
    automatic = problems.each(jax.jacfwd(_map), weights)
    # Indices from 1, as printed.
    w = np.concatenate([np.full((len(weights), 1), np.nan), np.asarray(weights)], axis=1)
    printed_value = np.zeros(value.shape)
    printed = np.zeros(automatic.shape)
    for i in range(1, DIM + 1):
        block = range((i - 1) * DEPTH + 1, i * DEPTH + 1)
        printed_value[:, i - 1] = np.prod(w[:, block], axis=1)
        for j in block:
            printed[:, i - 1, j - 1] = np.prod(w[:, [k for k in block if k != j]], axis=1)
    return Evidence(
        (
            measured("largest error of $G$", np.abs(printed_value - value), "<=", 1e-12),
            measured(r"largest error of $\nabla G_i$", np.abs(printed - automatic), "<=", 1e-12),
        )
    )


def _weights(key) -> Float[Array, " Ld"]:
    return jax.random.normal(key, (DEPTH * DIM,))


@claim(id="paper-equation-32", equations=(32,))
def regular_points(settings: Settings) -> Evidence:
    r"""Eq. (32): The manifold of regular points.

    $\mathcal{M}$ is the set of weights with at most one zero per coordinate. $G$ is regular on it, its
    Jacobian having rank $d$, and starts with Assumption A belong to it.

        \mathcal{M} = \bigl\{w : \forall i \in [d], \ \#\{j \in [L] : w_{(i-1)L+(j-1)} = 0\} \leq 1\bigr\},
        \qquad \operatorname{rank} J_G(w) = d \quad \forall w \in \mathcal{M}

    Correction: The index is $w_{(i-1)L+j}$, as in Eqs. (9) and (33). The printed one is shifted by one: it
    takes in the last weight of the coordinate before and leaves out the last one of its own.

    Labarrière et al. 2024, equation 32: ranks of the Jacobian at weights with random zeros.
    """
    weights = problems.each(_weights_with_zeros, problems.keys(settings, "zeros"))
    weights = np.asarray(weights).reshape(-1, DEPTH * DIM)
    jacobian = np.asarray(problems.each(jax.jacfwd(_map), weights))
    # Away from zero the entries are of order one.
    missing = DIM - np.linalg.matrix_rank(jacobian)
    zero = weights == 0
    corrected = zero.reshape(-1, DIM, DEPTH).sum(axis=2)
    # The printed index of the first weight is 0, which does not exist.
    shifted = np.concatenate([np.zeros((len(zero), 1), bool), zero[:, :-1]], axis=1)
    printed = shifted.reshape(-1, DIM, DEPTH).sum(axis=2)
    with_assumption_a = (corrected <= 1).all(axis=1)
    numbers = []
    for case, counts in (("as printed", printed), ("corrected", corrected)):
        inside = (counts <= 1).all(axis=1)
        label = r"on $\mathcal{M}$, largest $d - \operatorname{rank} J_G(w)$"
        numbers.append(measured(label, missing[inside].max(initial=0), "<=", 0, case=case))
        label = r"starts with Assumption A outside of $\mathcal{M}$"
        outside = np.sum(with_assumption_a & ~inside)
        numbers.append(measured(label, outside, "<=", 0, case=case))
    label = r"outside of $\mathcal{M}$, smallest $d - \operatorname{rank} J_G(w)$"
    beyond = missing[~with_assumption_a]
    numbers.append(measured(label, beyond.min(initial=DIM), ">=", 1, case="corrected"))
    return Evidence(tuple(numbers))


def _weights_with_zeros(key) -> Float[Array, "K Ld"]:
    """Weights away from zero, some of them zero: with no other ties in size, almost surely."""
    key_size, key_zero = jax.random.split(key)
    size = jax.random.uniform(key_size, (64, DEPTH * DIM), minval=0.5, maxval=2.0)
    return jnp.where(jax.random.bernoulli(key_zero, 0.25, size.shape), 0.0, size)


@claim(id="paper-commuting")
def commuting(settings: Settings) -> Evidence:
    r"""Appendix A.4: The map commutes and is regular.

    The gradient fields of the coordinates have zero brackets and act on disjoint sets of weights, and the
    Jacobian has rank $d$ at starts with Assumption A.

        \nabla^2 G_a(w) \nabla G_b(w) - \nabla^2 G_b(w) \nabla G_a(w) = 0, \qquad \operatorname{rank} J_G(w)
        = d

    Labarrière et al. 2024, appendix A.4: brackets, ranks and supports at random starts.
    """
    network = problems.networks(settings, 3)
    commutator, regularity, overlap = problems.each(_structure, network)
    return Evidence(
        (
            checked(commutator, "Lie brackets of the gradient fields"),
            checked(regularity, r"$d / \operatorname{rank} J_G$"),
            measured(
                "largest product of entries of the gradients of two coordinates", overlap, "<=", 0
            ),
        )
    )


def _structure(network: DeepDiagonal):
    jacobian = jnp.abs(network.jacobian())
    supports = jacobian @ jacobian.T
    return (
        theory.commutator(network),
        theory.regularity(network),
        supports - jnp.diag(jnp.diag(supports)),
    )


@claim(id="paper-integrated-gap")
def integrated_gap(settings: Settings) -> Evidence:
    r"""Appendix A.4, proof of Eq. (8): The divergence and the integrated gap decrease.

    The divergence to a minimizer, together with the gap of the loss integrated over time, does not exceed
    the divergence at the start.

        D_Q(\theta^*, \theta(t)) + \int_0^t (\mathcal{L}(\theta(s)) - \mathcal{L}^*)\, ds \leq D_Q(\theta^*,
        \theta(0))

    Labarrière et al. 2024, appendix A.4, the last display, for convex losses.
    """
    network, loss = problems.networks(settings, 3), problems.losses(settings)
    # Their times are close enough to bound the integral by sums.
    flow = problems.reduced_flows(network, loss, problems.log_times())
    check = problems.each(theory.bregman_decrease, flow, loss)
    return Evidence((checked(check, "$L = 3$"),))
