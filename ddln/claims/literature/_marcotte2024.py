"""Marcotte, Gribonval and Peyré 2024: conservation laws of momentum."""

from ddln import theory
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.claims.literature._marcotte2023 import normal, pair
from ddln.flows import MomentumDynamics
from ddln.parameterizations import AbstractParameterization

INERTIA = 1.0


def count(parameterization: AbstractParameterization) -> int:
    """The certified number of laws with momentum; -1 if the two bounds differ."""
    dynamics = MomentumDynamics(INERTIA)
    found = theory.count_conservation_laws(parameterization, dynamics=dynamics)
    return int(found.count) if bool(found.certified) else -1


@claim(id="marcotte2024-two-matrices")
def two_matrices(settings: Settings) -> Evidence:
    r"""As summarized: Momentum keeps the skew part.

    Of the symmetric matrix that gradient flow of $U V^\top$ conserves momentum keeps nothing; it has the laws
    of the rotations of the hidden layer, as many as a skew matrix has entries.

        \tfrac12 r (r - 1)

    Fixture: $(m, k, r) = (2, 2, 1), (2, 2, 2)$, random weights and velocities, inertia 1.

    The Lie algebra of the fields of weights, velocities and time, and laws linear in the velocity as the
    other bound.
    """
    laws = {(1, 2, 2): 0, (2, 2, 2): 1}
    return Evidence(
        tuple(
            compared(f"laws, $m, k = {m}, {k}$, $r = {r}$", count(pair(r, m, k)), number, 0.0)
            for (r, m, k), number in laws.items()
        )
    )


@claim(id="marcotte2024-relu")
def relu(settings: Settings) -> Evidence:
    r"""As summarized: Networks with kinks conserve nothing.

    Gradient flow of a ReLU network has a law for each hidden neuron. With momentum there is none.

        n_1 \;\to\; 0

    Fixture: a ReLU network with two inputs, two hidden neurons and one output, without biases, random weights
    and velocities, inertia 1.

    The certified counts of both dynamics.
    """
    network = theory.path_products([normal(1, 2, 2), normal(2, 1, 2)])
    plain = theory.count_conservation_laws(network)
    return Evidence(
        (
            compared("laws of gradient flow", plain.count, 2, 0.0),
            compared("laws with momentum", count(network), 0, 0.0),
        )
    )


CLAIMS = (two_matrices, relu)
