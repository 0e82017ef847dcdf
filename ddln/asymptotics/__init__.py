"""Errors of limits for Gaussian data as the dimension grows, and the experiments beside them."""

from ddln.asymptotics._end_law import EndLaw as EndLaw
from ddln.asymptotics._end_law import end_law as end_law
from ddln.asymptotics._recovery import recovery_threshold as recovery_threshold
from ddln.asymptotics._signal import Signal as Signal
from ddln.asymptotics._simulate import Simulation as Simulation
from ddln.asymptotics._simulate import simulate as simulate
from ddln.asymptotics._state_evolution import StateEvolution as StateEvolution
from ddln.asymptotics._state_evolution import state_evolution as state_evolution
