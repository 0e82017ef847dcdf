"""Continuous-time training dynamics."""

from ddln.flows._events import GradientNormBelow as GradientNormBelow
from ddln.flows._events import LossBelow as LossBelow
from ddln.flows._gradient_flow import gradient_flow as gradient_flow
from ddln.flows._mirror_flow import MirrorTrajectory as MirrorTrajectory
from ddln.flows._mirror_flow import mirror_flow as mirror_flow
from ddln.flows._trajectory import Trajectory as Trajectory
