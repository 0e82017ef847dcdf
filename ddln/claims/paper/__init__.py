"""The claims of the paper (Labarrière et al. 2024), in its order."""

from ddln.claims.paper._layers import conservation, squared_layer_rate

CLAIMS = (squared_layer_rate, conservation)
