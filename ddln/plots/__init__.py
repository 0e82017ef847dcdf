"""Figures: each function draws one and returns its matplotlib axes."""

from ddln.plots._coefficient_paths import coefficient_paths as coefficient_paths
from ddln.plots._ends import ends as ends
from ddln.plots._excess_curves import excess_curves as excess_curves
from ddln.plots._layers import layers as layers
from ddln.plots._loss_curves import loss_curves as loss_curves
from ddln.plots._phase import phase as phase
from ddln.plots._phase import phase_pair as phase_pair
from ddln.plots._potential_curves import potential_curves as potential_curves
from ddln.plots._scale_curves import scale_curves as scale_curves
from ddln.plots._staircase import staircase as staircase
from ddln.plots._style import style as style
