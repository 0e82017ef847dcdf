"""Training dynamics, in continuous and in discrete time."""

from ddln.flows._damping import AbstractDamping as AbstractDamping
from ddln.flows._damping import ConstantDamping as ConstantDamping
from ddln.flows._damping import VanishingDamping as VanishingDamping
from ddln.flows._descend import descend as descend
from ddln.flows._events import GradientNormBelow as GradientNormBelow
from ddln.flows._events import LossBelow as LossBelow
from ddln.flows._factors import TwoLayerFactors as TwoLayerFactors
from ddln.flows._gradient_flow import gradient_flow as gradient_flow
from ddln.flows._mirror_descent import mirror_descent as mirror_descent
from ddln.flows._mirror_flow import MirrorTrajectory as MirrorTrajectory
from ddln.flows._mirror_flow import mirror_flow as mirror_flow
from ddln.flows._momentum_flow import momentum_flow as momentum_flow
from ddln.flows._momentum_scaling import MomentumScaling as MomentumScaling
from ddln.flows._momentum_scaling import momentum_scaling as momentum_scaling
from ddln.flows._momentum_space import MomentumRecord as MomentumRecord
from ddln.flows._momentum_space import PairRecord as PairRecord
from ddln.flows._noise import AbstractNoise as AbstractNoise
from ddln.flows._noise import IsotropicNoise as IsotropicNoise
from ddln.flows._noise import LabelNoise as LabelNoise
from ddln.flows._noise import SampleNoise as SampleNoise
from ddln.flows._sensitivity import Sensitivity as Sensitivity
from ddln.flows._sensitivity import sensitivity as sensitivity
from ddln.flows._stochastic_flow import StochasticRecord as StochasticRecord
from ddln.flows._stochastic_flow import stochastic_flow as stochastic_flow
from ddln.flows._trajectory import Trajectory as Trajectory
