"""Problems: inputs, targets, names, and the true parameter of a generated one."""

from collections.abc import Sequence

import equinox as eqx

from ddln._types import Array, Float
from ddln._validation import float_array
from ddln.losses import LeastSquares
from ddln.problems._standardize import Standardization


class Problem(eqx.Module):
    """Inputs X and targets y of a linear model y ~ X theta.

    A pytree of arrays; names are static. Generators may be mapped over keys with `jax.vmap`: the
    arrays then have a leading axis, and the methods are for one problem, under `jax.vmap` again.

    Example:
        >>> problem = Problem([[1.0, 0.0], [1.0, 2.0]], [1.0, 3.0])
        >>> problem.feature_names
        ('x0', 'x1')
        >>> problem.loss().minimizer
        Array([1., 1.], dtype=float64)

    Args:
        X: the inputs, shape [n, d].
        y: the targets, shape [n]: real numbers, or labels -1 and 1.
        theta_true: the parameter that generated y, shape [d], where there is one.
        feature_names: a name for each column of X; x0, x1, ... if not given.
        target_name: the name of y.
        name: the name of the problem.
        standardization: the units of the data, and the rows that they are from, where `load` read them.

    Raises:
        ValueError: if the shapes or the number of names do not match, an axis is empty, or known
            values are not finite.
    """

    X: Float[Array, "n d"]
    y: Float[Array, " n"]
    theta_true: Float[Array, " d"] | None
    feature_names: tuple[str, ...] = eqx.field(static=True)
    target_name: str = eqx.field(static=True)
    name: str = eqx.field(static=True)
    standardization: Standardization | None = eqx.field(static=True)

    def __init__(
        self,
        X,
        y,
        theta_true=None,
        *,
        feature_names: Sequence[str] | None = None,
        target_name: str = "y",
        name: str = "problem",
        standardization: Standardization | None = None,
    ):
        self.X = float_array("X", X, "n d")
        self.y = float_array("y", y, "n")
        self.theta_true = None if theta_true is None else float_array("theta_true", theta_true, "d")
        n, d = self.X.shape
        if self.y.shape != (n,):
            raise ValueError(
                f"Argument `y` must have one entry for each of the {n} rows of `X`, "
                f"but it has {self.y.size}."
            )
        if self.theta_true is not None and self.theta_true.shape != (d,):
            raise ValueError(
                f"Argument `theta_true` must have one entry for each of the {d} columns of `X`, "
                f"but it has {self.theta_true.size}."
            )
        if feature_names is None:
            feature_names = [f"x{column}" for column in range(d)]
        if len(feature_names) != d:
            raise ValueError(
                f"Argument `feature_names` must have one name for each of the {d} columns of `X`, "
                f"but it has {len(feature_names)}."
            )
        self.feature_names = tuple(feature_names)
        self.target_name = target_name
        self.name = name
        self.standardization = standardization

    def loss(self, scale: float = 0.5) -> LeastSquares:
        """The least squares loss scale * |X theta - y|^2.

        For labels, `ddln.Logistic(problem.X, problem.y)` is the usual loss.
        """
        return LeastSquares(self.X, self.y, scale)
