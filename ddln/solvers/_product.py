"""Matrix products at full precision."""

from ddln._numerics import product as product
