"""Statements about the layers of deep diagonal networks along gradient flows."""

from ddln.theory.layers._assumption_a import assumption_a as assumption_a
from ddln.theory.layers._assumption_a import metric_lower_bound as metric_lower_bound
from ddln.theory.layers._decayed import decayed_gap as decayed_gap
from ddln.theory.layers._decayed import regularized_loss as regularized_loss
from ddln.theory.layers._network import deep_diagonal as deep_diagonal
from ddln.theory.layers._network import one_smallest_layer as one_smallest_layer
from ddln.theory.layers._network import sigma as sigma
from ddln.theory.layers._network import squared_layer_change as squared_layer_change
from ddln.theory.layers._network import squares_of_others as squares_of_others
from ddln.theory.layers._squared_layers import conservation as conservation
from ddln.theory.layers._squared_layers import sign_preservation as sign_preservation
from ddln.theory.layers._squared_layers import squared_layer_rate as squared_layer_rate
