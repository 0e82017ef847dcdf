"""Numerical building blocks that every folder shares; they know nothing of flows or losses."""

from ddln._numerics._derivatives import first_order as first_order
from ddln._numerics._derivatives import twice_differentiable as twice_differentiable
from ddln._numerics._in_chunks import in_chunks as in_chunks
from ddln._numerics._inverse_factor import inverse_factor as inverse_factor
from ddln._numerics._masks import all_finite as all_finite
from ddln._numerics._masks import expand_mask as expand_mask
from ddln._numerics._masks import where_rows as where_rows
from ddln._numerics._platform import default_device as default_device
from ddln._numerics._platform import default_platform as default_platform
from ddln._numerics._platform import tracing_for as tracing_for
from ddln._numerics._platform import usable_cores as usable_cores
from ddln._numerics._product import product as product
from ddln._numerics._pull_back import as_function as as_function
from ddln._numerics._pull_back import pull_back as pull_back
from ddln._numerics._quadrature import gauss_legendre as gauss_legendre
from ddln._numerics._row_space import RowSpace as RowSpace
from ddln._numerics._row_space import above_rounding as above_rounding
from ddln._numerics._vmap_maximum import max_over_vmap as max_over_vmap
