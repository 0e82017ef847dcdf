"""The vocabulary of array shapes used in signatures throughout the package.

Axis names: `L` depth (layers), `d` coordinates of the effective parameter, `n` samples, `T` saved times,
`B` initializations (batch), `P` trained parameters. `*theta` stands for the shape of the effective
parameter, which is `(d,)` for vectors and `(rows, columns)` for matrices.
"""

from collections.abc import Callable

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

# A point in effective-parameter space, of any shape.
Theta = Float[Array, "*theta"]
# One real number.
Scalar = Float[Array, ""]
# L(theta): a loss, given as a module of this package or as any function.
Loss = Callable[[Theta], Scalar]

__all__ = ["Array", "Bool", "Float", "Int", "Loss", "PRNGKeyArray", "PyTree", "Scalar", "Theta"]
