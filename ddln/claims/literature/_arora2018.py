"""Arora, Cohen and Hazan 2018: the flow of the product of balanced matrices."""

import jax
import numpy as np

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.parameterizations import DeepMatrixFactorization

# Of products of a few matrices with entries of order one.
EXACT = 1e-10


def balanced_factors(rng: np.random.Generator, depth: int, size: int = 4):
    """Balanced square factors and the singular value decomposition of their product."""
    bases = [np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(depth + 1)]
    values = np.sort(rng.uniform(0.5, 2.0, size))[::-1]
    root = np.diag(values ** (1 / depth))
    factors = [bases[i] @ root @ bases[i + 1].T for i in range(depth)]
    return factors, bases[0], values, bases[-1]


def velocity(factors, G: np.ndarray) -> np.ndarray:
    """The derivative of the product along the gradient flow, where the gradient in theta is G."""
    network = DeepMatrixFactorization(factors)
    function = lambda w: DeepMatrixFactorization(w).effective()  # noqa: E731
    _, pull = jax.vjp(function, network.factors)
    down = jax.tree.map(lambda leaf: -leaf, pull(jax.numpy.asarray(G))[0])
    return np.asarray(jax.jvp(function, (network.factors,), (down,))[1])


@claim(id="arora2018-preconditioner")
def preconditioner(settings: Settings) -> Evidence:
    r"""As summarized: Depth preconditions the gradient.

    Along the flow of balanced matrices the product moves by the gradient between powers of itself.

        \dot W = -\sum_{j=1}^N (W W^\top)^{\frac{N-j}{N}}\, G\, (W^\top W)^{\frac{j-1}{N}}

    Fixture: $N = 2, 3, 4$ balanced factors of size 4, singular values of the product between 0.5 and 2,
    standard normal gradient.

    The velocity by derivatives of the map against matrix powers by eigenvectors.
    """
    rng = np.random.default_rng(settings.seed)
    numbers = []
    for depth in (2, 3, 4):
        factors, U, s, V = balanced_factors(rng, depth)
        G = rng.normal(size=(4, 4))
        left = [U @ np.diag(s ** (2 * (depth - j) / depth)) @ U.T for j in range(1, depth + 1)]
        right = [V @ np.diag(s ** (2 * (j - 1) / depth)) @ V.T for j in range(1, depth + 1)]
        printed = -sum(a @ G @ b for a, b in zip(left, right, strict=True))
        numbers.append(
            compared(f"entry of $\\dot W$, $N = {depth}$", velocity(factors, G), printed, EXACT)
        )
    return Evidence(tuple(numbers))


CLAIMS = (preconditioner,)
