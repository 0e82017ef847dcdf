"""Dynamics of reparameterized models in JAX.

Figures (`ddln.plots`) and the command line (`ddln.cli`) are not imported here, so that this
import stays light.
"""

from ddln import problems as problems
from ddln import theory as theory
from ddln._results import RESULTS as RESULTS
from ddln._results import is_okay as is_okay
from ddln.flows import GradientNormBelow as GradientNormBelow
from ddln.flows import LossBelow as LossBelow
from ddln.flows import MirrorTrajectory as MirrorTrajectory
from ddln.flows import Trajectory as Trajectory
from ddln.flows import gradient_flow as gradient_flow
from ddln.flows import mirror_flow as mirror_flow
from ddln.limits import Limit as Limit
from ddln.limits import effective_sparsity as effective_sparsity
from ddln.limits import excess_l1 as excess_l1
from ddln.limits import limit as limit
from ddln.limits import minimum_l1 as minimum_l1
from ddln.limits import minimum_l2 as minimum_l2
from ddln.limits import richness as richness
from ddln.losses import AbstractLoss as AbstractLoss
from ddln.losses import AbstractPredictionLoss as AbstractPredictionLoss
from ddln.losses import GeneralizedLinear as GeneralizedLinear
from ddln.losses import LeastSquares as LeastSquares
from ddln.losses import Logistic as Logistic
from ddln.parameterizations import AbstractParameterization as AbstractParameterization
from ddln.parameterizations import AbstractReducedCoordinates as AbstractReducedCoordinates
from ddln.parameterizations import CanonicalForm as CanonicalForm
from ddln.parameterizations import Composed as Composed
from ddln.parameterizations import DeepDiagonal as DeepDiagonal
from ddln.parameterizations import DeepMatrixFactorization as DeepMatrixFactorization
from ddln.parameterizations import FromFunction as FromFunction
from ddln.parameterizations import Identity as Identity
from ddln.parameterizations import MatrixFactorization as MatrixFactorization
from ddln.parameterizations import Power as Power
from ddln.parameterizations import PowerDifference as PowerDifference
from ddln.parameterizations import Square as Square
from ddln.parameterizations import SymmetricFactorization as SymmetricFactorization
from ddln.parameterizations import WeightNorm as WeightNorm
from ddln.potentials import AbstractPotential as AbstractPotential
from ddln.potentials import DeepDiagonalPotential as DeepDiagonalPotential
from ddln.potentials import EntropyPotential as EntropyPotential
from ddln.potentials import HypentropyPotential as HypentropyPotential
from ddln.potentials import NumericalPotential as NumericalPotential
from ddln.potentials import PowerDifferencePotential as PowerDifferencePotential
from ddln.potentials import PowerPotential as PowerPotential
from ddln.potentials import QuadraticPotential as QuadraticPotential
from ddln.potentials import potential as potential
from ddln.solvers import Rodas5P as Rodas5P
from ddln.sweeps import Initializations as Initializations
from ddln.sweeps import SweepResult as SweepResult
from ddln.sweeps import compile_sweep as compile_sweep
from ddln.sweeps import sweep as sweep
