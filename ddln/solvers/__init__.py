"""Rosenbrock methods for diffrax, and the structured Jacobian of separable flows for lineax."""

from ddln.solvers._diagonal_plus_low_rank import DiagonalPlusLowRank as DiagonalPlusLowRank
from ddln.solvers._diagonal_plus_low_rank import Woodbury as Woodbury
from ddln.solvers._rkc import RKC as RKC
from ddln.solvers._rodas5p import Rodas5P as Rodas5P
from ddln.solvers._rosenbrock import AbstractRosenbrock as AbstractRosenbrock
from ddln.solvers._rosenbrock import RosenbrockInterpolation as RosenbrockInterpolation
from ddln.solvers._separable import SeparableDualField as SeparableDualField
from ddln.solvers._separable import SeparableField as SeparableField
from ddln.solvers._structure import AbstractSampledField as AbstractSampledField
from ddln.solvers._structure import AbstractStructuredField as AbstractStructuredField
from ddln.solvers._structure import AbstractStructuredOperator as AbstractStructuredOperator
from ddln.solvers._tableau import RosenbrockTableau as RosenbrockTableau
