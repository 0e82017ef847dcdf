"""The claims of the paper (Labarrière et al. 2024), in its order."""

from ddln.claims.paper import _layers as layers
from ddln.claims.paper import _mirror as mirror
from ddln.claims.paper import _powers as powers
from ddln.claims.paper import _rates as rates
from ddln.claims.paper import _structure as structure
from ddln.claims.paper import _two_layers as pairs

CLAIMS = (
    layers.gradient,
    layers.squared_layer_rate,
    layers.conservation,
    layers.sign_preservation,
    layers.assumption_a,
    layers.figure_3,
    layers.reduced_flow,
    layers.effective_parameter,
    layers.two_layers,
    mirror.mirror_flow,
    mirror.bregman_rate,
    structure.gradients,
    mirror.monotone,
    mirror.entropy_at_the_ends,
    mirror.explicit_entropy,
    rates.metric,
    rates.metric_lower_bound,
    rates.pl_rate,
    rates.faster_than_plain,
    rates.pl_rate_zero_last,
    rates.depth_helps,
    rates.figure_4,
    rates.small_starts,
    pairs.closed_form,
    pairs.end_of_flow,
    pairs.entropy,
    pairs.sum_and_difference,
    powers.closed_form,
    powers.entropy,
    powers.end_of_flow,
    structure.regular_points,
    structure.commuting,
    structure.integrated_gap,
)
