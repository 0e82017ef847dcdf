"""Where flows end."""

from ddln.limits._limit import Limit as Limit
from ddln.limits._limit import limit as limit
from ddln.limits._measures import effective_sparsity as effective_sparsity
from ddln.limits._measures import excess_l1 as excess_l1
from ddln.limits._measures import richness as richness
from ddln.limits._reference import minimum_l1 as minimum_l1
from ddln.limits._reference import minimum_l2 as minimum_l2
