"""Where flows end."""

from ddln.limits._reference import minimum_l1 as minimum_l1
from ddln.limits._reference import minimum_l2 as minimum_l2
