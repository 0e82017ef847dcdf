"""The statements of the theory, each checked on a trajectory or a parameterization."""

from ddln.theory._assumption_a import assumption_a as assumption_a
from ddln.theory._bregman_decrease import bregman_decrease as bregman_decrease
from ddln.theory._bregman_rate import bregman_rate as bregman_rate
from ddln.theory._check import Check as Check
from ddln.theory._checks import checks as checks
from ddln.theory._conservation import conservation as conservation
from ddln.theory._metric_lower_bound import metric_lower_bound as metric_lower_bound
from ddln.theory._mirror_identity import mirror_identity as mirror_identity
from ddln.theory._mirror_optimality import mirror_optimality as mirror_optimality
from ddln.theory._monotone_loss import monotone_loss as monotone_loss
from ddln.theory._pl_rate import pl_rate as pl_rate
from ddln.theory._pl_rate_along_path import pl_rate_along_path as pl_rate_along_path
from ddln.theory._pl_rate_zero_last import pl_rate_zero_last as pl_rate_zero_last
from ddln.theory._sigma import sigma as sigma
from ddln.theory._sign_preservation import sign_preservation as sign_preservation
from ddln.theory._squared_layer_rate import squared_layer_rate as squared_layer_rate
from ddln.theory._tangent_kernel_rate import tangent_kernel_rate as tangent_kernel_rate
