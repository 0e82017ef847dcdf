"""Dynamics of reparameterized models in JAX.

`ddln.asymptotics`, `ddln.theory`, `ddln.plots` and `ddln.problems` are imported when they are first used,
so that this import stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ddln._cite import cite as cite
from ddln._results import RESULTS as RESULTS
from ddln._results import is_okay as is_okay
from ddln.engine import AbstractDynamics as AbstractDynamics
from ddln.engine import PerLane as PerLane
from ddln.engine import Saved as Saved
from ddln.flows import AbstractDamping as AbstractDamping
from ddln.flows import AbstractNoise as AbstractNoise
from ddln.flows import CentralDynamics as CentralDynamics
from ddln.flows import CentralRecord as CentralRecord
from ddln.flows import ConstantDamping as ConstantDamping
from ddln.flows import DescentDynamics as DescentDynamics
from ddln.flows import GradientDynamics as GradientDynamics
from ddln.flows import GradientNormBelow as GradientNormBelow
from ddln.flows import IsotropicNoise as IsotropicNoise
from ddln.flows import LabelNoise as LabelNoise
from ddln.flows import LossBelow as LossBelow
from ddln.flows import MirrorDynamics as MirrorDynamics
from ddln.flows import MirrorTrajectory as MirrorTrajectory
from ddln.flows import MomentumDynamics as MomentumDynamics
from ddln.flows import MomentumRecord as MomentumRecord
from ddln.flows import MomentumScaling as MomentumScaling
from ddln.flows import PairRecord as PairRecord
from ddln.flows import PiecewiseConstant as PiecewiseConstant
from ddln.flows import SamDynamics as SamDynamics
from ddln.flows import SampleNoise as SampleNoise
from ddln.flows import Sensitivity as Sensitivity
from ddln.flows import SteepestDynamics as SteepestDynamics
from ddln.flows import StochasticDynamics as StochasticDynamics
from ddln.flows import StochasticRecord as StochasticRecord
from ddln.flows import Trajectory as Trajectory
from ddln.flows import VanishingDamping as VanishingDamping
from ddln.flows import central_flow as central_flow
from ddln.flows import descend as descend
from ddln.flows import gradient_flow as gradient_flow
from ddln.flows import integrated_decay as integrated_decay
from ddln.flows import mirror_descent as mirror_descent
from ddln.flows import mirror_flow as mirror_flow
from ddln.flows import momentum_flow as momentum_flow
from ddln.flows import momentum_scaling as momentum_scaling
from ddln.flows import sam_flow as sam_flow
from ddln.flows import sensitivity as sensitivity
from ddln.flows import steepest_flow as steepest_flow
from ddln.flows import stochastic_flow as stochastic_flow
from ddln.limits import LassoPath as LassoPath
from ddln.limits import Limit as Limit
from ddln.limits import MarginStationarity as MarginStationarity
from ddln.limits import TaskSequence as TaskSequence
from ddln.limits import VanishingLimit as VanishingLimit
from ddln.limits import averaged as averaged
from ddln.limits import effective_sparsity as effective_sparsity
from ddln.limits import excess_l1 as excess_l1
from ddln.limits import excess_law as excess_law
from ddln.limits import l1_margin as l1_margin
from ddln.limits import l1_weights as l1_weights
from ddln.limits import lasso_path as lasso_path
from ddln.limits import limit as limit
from ddln.limits import margin_stationarity as margin_stationarity
from ddln.limits import max_margin_l1 as max_margin_l1
from ddln.limits import minimum_l1 as minimum_l1
from ddln.limits import minimum_l2 as minimum_l2
from ddln.limits import minimum_nuclear_norm as minimum_nuclear_norm
from ddln.limits import regime_exponent as regime_exponent
from ddln.limits import relative_distance as relative_distance
from ddln.limits import richness as richness
from ddln.limits import train_sequence as train_sequence
from ddln.limits import vanishing_limit as vanishing_limit
from ddln.losses import AbstractLoss as AbstractLoss
from ddln.losses import AbstractPredictionLoss as AbstractPredictionLoss
from ddln.losses import GeneralizedLinear as GeneralizedLinear
from ddln.losses import LeastSquares as LeastSquares
from ddln.losses import Logistic as Logistic
from ddln.losses import Softmax as Softmax
from ddln.losses import Weighted as Weighted
from ddln.parameterizations import AbstractParameterization as AbstractParameterization
from ddln.parameterizations import AbstractReducedCoordinates as AbstractReducedCoordinates
from ddln.parameterizations import CanonicalForm as CanonicalForm
from ddln.parameterizations import Composed as Composed
from ddln.parameterizations import Constant as Constant
from ddln.parameterizations import DeepDiagonal as DeepDiagonal
from ddln.parameterizations import DeepMatrixFactorization as DeepMatrixFactorization
from ddln.parameterizations import FourVector as FourVector
from ddln.parameterizations import FromFunction as FromFunction
from ddln.parameterizations import Grouped as Grouped
from ddln.parameterizations import Identity as Identity
from ddln.parameterizations import LearningRates as LearningRates
from ddln.parameterizations import MatrixFactorization as MatrixFactorization
from ddln.parameterizations import Power as Power
from ddln.parameterizations import PowerDifference as PowerDifference
from ddln.parameterizations import Square as Square
from ddln.parameterizations import Sum as Sum
from ddln.parameterizations import SymmetricFactorization as SymmetricFactorization
from ddln.parameterizations import Tied as Tied
from ddln.parameterizations import WeightNorm as WeightNorm
from ddln.potentials import AbstractPotential as AbstractPotential
from ddln.potentials import DeepDiagonalPotential as DeepDiagonalPotential
from ddln.potentials import EntropyPotential as EntropyPotential
from ddln.potentials import HypentropyPotential as HypentropyPotential
from ddln.potentials import NumericalPotential as NumericalPotential
from ddln.potentials import PowerDifferencePotential as PowerDifferencePotential
from ddln.potentials import PowerPotential as PowerPotential
from ddln.potentials import QuadraticPotential as QuadraticPotential
from ddln.potentials import SumPotential as SumPotential
from ddln.potentials import potential as potential
from ddln.solvers import RKC as RKC
from ddln.solvers import Rodas5P as Rodas5P
from ddln.sweeps import Initializations as Initializations
from ddln.sweeps import StoredArray as StoredArray
from ddln.sweeps import SweepResult as SweepResult
from ddln.sweeps import SweepStatus as SweepStatus
from ddln.sweeps import SweepStore as SweepStore
from ddln.sweeps import compile_sweep as compile_sweep
from ddln.sweeps import sweep as sweep
from ddln.sweeps import sweep_runs as sweep_runs

if TYPE_CHECKING:
    from ddln import asymptotics as asymptotics
    from ddln import plots as plots
    from ddln import problems as problems
    from ddln import theory as theory
    from ddln.asymptotics import Signal as Signal
    from ddln.asymptotics import StateEvolution as StateEvolution
    from ddln.asymptotics import state_evolution as state_evolution


_LATER = ("asymptotics", "plots", "problems", "theory")
_OF_ASYMPTOTICS = ("Signal", "StateEvolution", "state_evolution")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"ddln.{name}")
    if name in _OF_ASYMPTOTICS:
        return getattr(importlib.import_module("ddln.asymptotics"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("ddln")
    raise AttributeError(f"module 'ddln' has no attribute '{name}'")


def __dir__() -> list[str]:
    helpers = ("TYPE_CHECKING", "Any", "importlib")
    return sorted({*globals(), *_LATER, *_OF_ASYMPTOTICS, "__version__"}.difference(helpers))
