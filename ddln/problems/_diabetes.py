"""The diabetes data of Efron, Hastie, Johnstone and Tibshirani 2004, embedded in the package."""

import hashlib
from itertools import combinations
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ddln.problems._dtype import float_dtype
from ddln.problems._problem import Problem
from ddln.problems._standardize import unit_columns

FILE = Path(__file__).with_name("diabetes.csv")
# Checksum of the file with \n line ends, independent of the checkout.
SHA256 = "404632545e101c5a62ed5b7e741ec07734728273dfb993e5a456cd8bc659dd25"


def diabetes(
    *, quadratic: bool = False, standardize: bool = True, dtype: DTypeLike | None = None
) -> Problem:
    """The diabetes data: 442 patients, 10 features, disease progression one year later.

    The features are age (years), sex (1 or 2), bmi (body mass index), bp (average blood pressure)
    and six blood serum measurements: s1 tc (total cholesterol), s2 ldl, s3 hdl, s4 tch (tc / hdl),
    s5 ltg (possibly the log of triglycerides) and s6 glu (blood sugar).

    With `quadratic=True` there are 64 features, as in the quadratic model of the source and in the
    order of its file data64.txt: the 10 main effects, their 9 squares (none of sex, which has two
    values) and their 45 products.

    Example:
        >>> problem = diabetes(quadratic=True)
        >>> problem.X.shape, problem.feature_names[10], problem.feature_names[19]
        ((442, 64), 'age^2', 'age:sex')

    Args:
        quadratic: whether to add squares and products.
        standardize: as in the source, columns of X have mean 0 and l2 norm 1 and y has mean 0, so
            that no intercept is needed; squares and products are formed from standardized main
            effects and standardized again. If false, all are in the original units.
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem, without a theta_true.

    Raises:
        RuntimeError: if the embedded file is not the original one, by its SHA-256 checksum.
        ValueError: if `dtype` is not a floating dtype.

    Source: Efron, Hastie, Johnstone and Tibshirani 2004, "Least angle regression", Annals of
    Statistics 32(2), 407-499, Table 1; the values are those of
    https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html.
    """
    text = FILE.read_text(encoding="utf-8")
    if hashlib.sha256(text.encode()).hexdigest() != SHA256:
        raise RuntimeError(
            f"The embedded data file {FILE} was changed: its SHA-256 checksum differs. "
            "Reinstall ddln."
        )
    header, *lines = text.splitlines()
    *names, target_name = header.split(",")
    values = np.loadtxt(lines, delimiter=",")
    X, y = values[:, :-1], values[:, -1]
    if standardize:
        X, y = unit_columns(X), y - y.mean()
    if quadratic:
        squares = [j for j, name in enumerate(names) if name != "sex"]
        first, second = zip(*combinations(range(len(names)), 2), strict=True)
        added = np.hstack([X[:, squares] ** 2, X[:, first] * X[:, second]])
        X = np.hstack([X, unit_columns(added) if standardize else added])
        names += [f"{names[j]}^2" for j in squares]
        names += [f"{names[i]}:{names[j]}" for i, j in zip(first, second, strict=True)]
    dtype = float_dtype(dtype)
    return Problem(
        jnp.asarray(X, dtype),
        jnp.asarray(y, dtype),
        feature_names=names,
        target_name=target_name,
        name="diabetes",
    )
