"""The claims of the slides (Vega et al. 2025), in their order."""

from ddln.claims.slides import _flows as flows
from ddln.claims.slides import _laws as laws
from ddln.claims.slides import _matrix_factorization as matrices
from ddln.claims.slides import _reparameterization as reparameterization
from ddln.claims.slides import _scale as scale
from ddln.claims.slides import _separable as separable
from ddln.claims.slides import _training as training
from ddln.claims.slides import _weight_normalization as normalization

CLAIMS = (
    reparameterization.same_minimum,
    flows.gradient_descent,
    flows.mirror,
    flows.gradient_flow_end,
    flows.mirror_flow_end,
    flows.different_bias,
    reparameterization.chain_rule,
    reparameterization.inverse_hessian,
    separable.square_flow,
    separable.square_entropy,
    separable.power_flow,
    separable.power_entropy,
    separable.pair_entropy,
    scale.small_scale,
    scale.large_scale,
    training.stochasticity,
    training.step_size,
    training.momentum,
    scale.deep_mirror_flow,
    scale.deep_small_scale,
    scale.depth_sparsity,
    matrices.nuclear_norm,
    normalization.weight_normalization,
    laws.no_mirror_flow,
    normalization.beyond_mirror_flow,
    laws.conservation_laws,
    laws.invariants,
    laws.global_minimum,
)
