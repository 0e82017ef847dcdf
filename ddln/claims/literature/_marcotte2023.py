"""Marcotte, Gribonval and Peyré 2023: the number of conservation laws."""

import itertools

import jax

from ddln import theory
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.parameterizations import (
    AbstractParameterization,
    DeepMatrixFactorization,
    MatrixFactorization,
    SymmetricFactorization,
)


def count(parameterization: AbstractParameterization) -> int:
    """The certified number of laws; -1 if the two bounds differ."""
    found = theory.count_conservation_laws(parameterization)
    return int(found.count) if bool(found.certified) else -1


def normal(seed: int, *shape: int):
    return jax.random.normal(jax.random.key(seed), shape)


def pair(hidden: int, rows: int, columns: int) -> MatrixFactorization:
    return MatrixFactorization(normal(1, rows, hidden), normal(2, columns, hidden))


@claim(id="marcotte2023-two-matrices")
def two_matrices(settings: Settings) -> Evidence:
    r"""Two matrices: As many laws as a symmetric matrix has entries.

    The flow of $U V^\top$ conserves $U^\top U - V^\top V$ and nothing else: a symmetric matrix of the size
    of the hidden layer, if that is not larger than both others together.

        \tfrac12 r (r + 1), \qquad r \leq m + k

    Fixture: $(m, k, r) = (2, 2, 1), (2, 2, 2), (3, 2, 2)$, random weights.

    As summarized: the Lie algebra of the gradient fields, and polynomial laws as the other bound.
    """
    shapes = {(1, 2, 2): 1, (2, 2, 2): 3, (2, 3, 2): 3}
    return Evidence(
        tuple(
            compared(f"laws, $m, k = {m}, {k}$, $r = {r}$", count(pair(r, m, k)), laws, 0.0)
            for (r, m, k), laws in shapes.items()
        )
    )


@claim(id="marcotte2023-wide")
def wide(settings: Settings) -> Evidence:
    r"""Two matrices: Wide hidden layers.

    If the hidden layer is wider than both others together the laws depend on each other.

        N r - \tfrac12 N (N - 1), \qquad r > N = m + k

    Fixture: $(m, k, r) = (1, 1, 3)$, random weights.

    As summarized: the count of both bounds.
    """
    return Evidence((compared("laws, $m, k = 1, 1$, $r = 3$", count(pair(3, 1, 1)), 5, 0.0),))


@claim(id="marcotte2023-symmetric")
def symmetric(settings: Settings) -> Evidence:
    r"""One matrix: Symmetric factorizations conserve nothing.

    The flow of $U U^\top$ with $r \leq m$ columns has no conservation law at all.

        0, \qquad r \leq m

    Fixture: $(m, r) = (2, 1), (2, 2)$, random weights.

    As summarized: the Lie algebra has the dimension of the weights.
    """
    return Evidence(
        tuple(
            compared(
                f"laws, $m, r = 2, {r}$", count(SymmetricFactorization(normal(r, 2, r))), 0, 0.0
            )
            for r in (1, 2)
        )
    )


@claim(id="marcotte2023-deep")
def deep(settings: Settings) -> Evidence:
    r"""Deep linear networks: One symmetric matrix for each hidden layer.

    Each hidden layer adds the laws of a pair of matrices.

        \sum_l \tfrac12 n_l (n_l + 1), \qquad n_l \leq n_{l-1} + n_{l+1}

    Condition: The output is no single number of a single number. With $n_0 = n_L = 1$ there is but one
    gradient field, so one law less than there are weights, which is more.

    Fixture: widths $(2, 1, 2, 1)$ with the condition and $(1, 2, 2, 1)$ without it, random weights.

    As summarized; the exception is a correction of this package's notes on the count.
    """

    def laws(*widths):
        pairs = itertools.pairwise(widths)
        network = DeepMatrixFactorization([normal(i, *shape) for i, shape in enumerate(pairs)])
        return theory.count_conservation_laws(network)

    exception = laws(1, 2, 2, 1)
    beyond = exception.weights - exception.orbit_dimension
    return Evidence(
        (
            compared(
                "laws, $(2, 1, 2, 1)$",
                laws(2, 1, 2, 1).count,
                1 + 3,
                0.0,
                case="with the condition",
            ),
            compared("laws, $(1, 2, 2, 1)$", beyond, 7, 0.0, case="with the condition"),
            compared("laws, $(1, 2, 2, 1)$", beyond, 3 + 3, 0.0, case="without it"),
        )
    )


CLAIMS = (two_matrices, wide, symmetric, deep)
