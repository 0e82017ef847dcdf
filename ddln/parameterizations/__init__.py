"""theta = h(w): maps from trained weights to the effective parameter."""

from ddln.parameterizations._base import (
    AbstractParameterization as AbstractParameterization,
)
from ddln.parameterizations._base import (
    AbstractReducedCoordinates as AbstractReducedCoordinates,
)
from ddln.parameterizations._canonical import CanonicalForm as CanonicalForm
from ddln.parameterizations._canonical import products_of_others as products_of_others
from ddln.parameterizations._composed import Composed as Composed
from ddln.parameterizations._constant import Constant as Constant
from ddln.parameterizations._deep_diagonal import DeepDiagonal as DeepDiagonal
from ddln.parameterizations._deep_matrix_factorization import (
    DeepMatrixFactorization as DeepMatrixFactorization,
)
from ddln.parameterizations._four_vector import FourVector as FourVector
from ddln.parameterizations._from_function import FromFunction as FromFunction
from ddln.parameterizations._groups import Grouped as Grouped
from ddln.parameterizations._groups import Tied as Tied
from ddln.parameterizations._identity import Identity as Identity
from ddln.parameterizations._identity import IdentityCoordinates as IdentityCoordinates
from ddln.parameterizations._learning_rates import LearningRates as LearningRates
from ddln.parameterizations._matrix_factorization import MatrixFactorization as MatrixFactorization
from ddln.parameterizations._power import Power as Power
from ddln.parameterizations._power_difference import PowerDifference as PowerDifference
from ddln.parameterizations._square import Square as Square
from ddln.parameterizations._steepest_form import SmoothPower as SmoothPower
from ddln.parameterizations._steepest_form import SteepestForm as SteepestForm
from ddln.parameterizations._sum import Sum as Sum
from ddln.parameterizations._symmetric_factorization import (
    SymmetricFactorization as SymmetricFactorization,
)
from ddln.parameterizations._weight_norm import WeightNorm as WeightNorm
