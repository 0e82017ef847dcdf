"""Dynamics of reparameterized models in JAX."""

from ddln._results import RESULTS as RESULTS
from ddln._results import is_okay as is_okay
from ddln.losses import AbstractLoss as AbstractLoss
from ddln.losses import AbstractPredictionLoss as AbstractPredictionLoss
from ddln.losses import GeneralizedLinear as GeneralizedLinear
from ddln.losses import LeastSquares as LeastSquares
from ddln.losses import Logistic as Logistic
from ddln.parameterizations import AbstractParameterization as AbstractParameterization
from ddln.parameterizations import AbstractReducedCoordinates as AbstractReducedCoordinates
from ddln.parameterizations import CanonicalForm as CanonicalForm
from ddln.parameterizations import DeepDiagonal as DeepDiagonal
from ddln.parameterizations import Identity as Identity
