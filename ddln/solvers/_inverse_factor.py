"""The inverse of a Cholesky factor."""

from ddln._numerics import inverse_factor as inverse_factor
