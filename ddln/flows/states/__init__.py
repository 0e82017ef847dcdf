"""The unknowns of the flows."""

from ddln.flows.states._base import AbstractStates as AbstractStates
from ddln.flows.states._mirror import AbstractMirrorStates as AbstractMirrorStates
from ddln.flows.states._mirror import Dual as Dual
from ddln.flows.states._mirror import Primal as Primal
from ddln.flows.states._momentum import MomentumRecord as MomentumRecord
from ddln.flows.states._momentum import PairRecord as PairRecord
from ddln.flows.states._momentum import rotate as rotate
from ddln.flows.states._weights import AbstractWeightStates as AbstractWeightStates
from ddln.flows.states._weights import DecayedSpace as DecayedSpace
from ddln.flows.states._weights import FullSpace as FullSpace
from ddln.flows.states._weights import ReducedSpace as ReducedSpace
from ddln.flows.states._weights import Response as Response
from ddln.flows.states._weights import atol_factor as atol_factor
from ddln.flows.states._weights import startable as startable
from ddln.flows.states._weights import weight_states as weight_states
