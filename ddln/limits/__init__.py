"""Limits of gradient flows, and the solutions that they are compared with."""

from ddln.limits._averaged import averaged as averaged
from ddln.limits._excess_law import excess_law as excess_law
from ddln.limits._lasso_path import LassoPath as LassoPath
from ddln.limits._lasso_path import lasso_path as lasso_path
from ddln.limits._limit import Limit as Limit
from ddln.limits._limit import limit as limit
from ddln.limits._margins import MarginStationarity as MarginStationarity
from ddln.limits._margins import l1_margin as l1_margin
from ddln.limits._margins import margin_stationarity as margin_stationarity
from ddln.limits._margins import max_margin_l1 as max_margin_l1
from ddln.limits._measures import effective_sparsity as effective_sparsity
from ddln.limits._measures import excess_l1 as excess_l1
from ddln.limits._measures import minimum_l1 as minimum_l1
from ddln.limits._measures import minimum_l2 as minimum_l2
from ddln.limits._measures import minimum_nuclear_norm as minimum_nuclear_norm
from ddln.limits._measures import regime_exponent as regime_exponent
from ddln.limits._measures import relative_distance as relative_distance
from ddln.limits._measures import richness as richness
from ddln.limits._train_sequence import TaskSequence as TaskSequence
from ddln.limits._train_sequence import train_sequence as train_sequence
from ddln.limits._vanishing_limit import VanishingLimit as VanishingLimit
from ddln.limits._vanishing_limit import vanishing_limit as vanishing_limit
from ddln.limits._weights import l1_weights as l1_weights
