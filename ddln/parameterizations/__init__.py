"""theta = h(w): maps from trained weights to the effective parameter."""

from ddln.parameterizations._base import (
    AbstractParameterization as AbstractParameterization,
)
from ddln.parameterizations._base import (
    AbstractReducedCoordinates as AbstractReducedCoordinates,
)
from ddln.parameterizations._canonical import CanonicalForm as CanonicalForm
from ddln.parameterizations._deep_diagonal import DeepDiagonal as DeepDiagonal
from ddln.parameterizations._identity import Identity as Identity
from ddln.parameterizations._identity import IdentityCoordinates as IdentityCoordinates
