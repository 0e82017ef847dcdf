"""The experiment of finite dimension that the state evolution describes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS, is_okay
from ddln._types import Array, Float, Int, PRNGKeyArray
from ddln._validation import require_not_negative, require_positive
from ddln.asymptotics._arguments import signal_of, weights_of, with_coordinates
from ddln.asymptotics._signal import Signal
from ddln.engine import PerLane
from ddln.losses import LeastSquares
from ddln.parameterizations import AbstractParameterization
from ddln.sweeps import Initializations, sweep


class Simulation(eqx.Module):
    """Limits of gradient flows on independent data sets.

    Attributes:
        mse: |theta - theta*|^2 / d of each run.
        overlap: <theta, theta*> / d.
        l1: |theta|_1 / d.
        l2: |theta|_2^2 / d.
        observed: the mean of observe(theta) over the coordinates, a value for each run, or None.
        signal: theta* of each run.
        result: a `ddln.RESULTS` code for each run; where it is not `successful`, the numbers are nan.
    """

    mse: Float[Array, " B"]
    overlap: Float[Array, " B"]
    l1: Float[Array, " B"]
    l2: Float[Array, " B"]
    observed: Any
    signal: Float[Array, "B d"]
    result: RESULTS

    def mean(self, values: Float[Array, " B"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The mean of one of the arrays over the runs that succeeded, and its standard error.

        Args:
            values: `mse`, `overlap`, ..., an array of `observed`, or a function of them, shape [B]; at least
                two runs.
        """
        okay = is_okay(self.result)
        count = jnp.sum(okay).astype(values.dtype)
        centre = jnp.sum(jnp.where(okay, values, 0)) / count
        squares = jnp.sum(jnp.where(okay, jnp.square(values - centre), 0))
        return centre, jnp.sqrt(squares / (count - 1) / count)


def simulate(
    start: AbstractParameterization,
    signal: Signal,
    ratio: float,
    noise: float | Float[Array, ""] = 0.0,
    *,
    dim: int,
    runs: int,
    key: PRNGKeyArray,
    weights: Float[Array, " K"] | None = None,
    observe: Callable[[Float[Array, "..."]], Any] | None = None,
) -> Simulation:
    """Limits for random data of a finite dimension: the experiment of `ddln.state_evolution`.

    A run draws X with independent entries N(0, 1/n), n = round(ratio * dim), theta* with independent entries
    of the law `signal`, and y = X theta* + noise * normal; its start has `dim` coordinates drawn from
    those of `start`. The limits are one `ddln.sweep` with a data set per lane.

    Example:
        >>> start = ddln.DeepDiagonal.zero_last(jnp.ones(1), depth=3, scale=0.3)
        >>> runs = simulate(start, ddln.Signal.sparse(0.1), 0.35, dim=400, runs=100, key=key)
        >>> mean, standard_error = runs.mean(runs.mse)

    Args:
        start: as in `ddln.state_evolution`.
        signal: as in `ddln.state_evolution`.
        ratio: n/d before rounding.
        noise: as in `ddln.state_evolution`.
        dim: d.
        runs: the number of data sets.
        key: a JAX random key.
        weights: as in `ddln.state_evolution`.
        observe: as in `ddln.state_evolution`.

    Returns:
        The measured means over coordinates, for each run.

    Raises:
        ValueError: if `ratio * dim` rounds to zero, or an argument is not positive.
    """
    require_positive("ratio", ratio)
    require_not_negative("noise", noise)
    samples = round(float(ratio) * dim)
    if min(dim, runs, samples) < 1:
        raise ValueError(
            "Arguments `dim` and `runs` must be at least 1, and `ratio * dim` at least 1/2, but they are "
            f"{dim}, {runs} and {float(ratio) * dim}. Take a larger dimension."
        )
    dtype = start.effective().dtype
    shares = weights_of(weights, start)
    signal_of(signal, start)  # checks its shape; draws are of its own dtype

    def parts(index: Int[Array, ""]) -> tuple[PRNGKeyArray, ...]:
        return tuple(jax.random.split(jax.random.fold_in(key, index), 4))

    def chosen(index: Int[Array, ""]) -> Int[Array, " d"]:
        key_start = parts(index)[3]
        if weights is None:
            return jax.random.randint(key_start, (dim,), 0, len(shares))
        return jax.random.categorical(key_start, jnp.log(shares), shape=(dim,))

    def truth(index: Int[Array, ""]) -> Float[Array, " d"]:
        return signal.draw(parts(index)[0], dim, chosen(index)).astype(dtype)

    def data(index: Int[Array, ""]) -> LeastSquares:
        _, key_X, key_noise, _ = parts(index)
        X = jax.random.normal(key_X, (samples, dim), dtype) / jnp.sqrt(jnp.asarray(samples, dtype))
        loss = LeastSquares(X, jnp.zeros(samples, dtype))
        y = loss.predict(truth(index)) + noise * jax.random.normal(key_noise, (samples,), dtype)
        return LeastSquares(X, y)

    def drawn(index: Int[Array, ""]) -> AbstractParameterization:
        return with_coordinates(start, chosen(index))

    ends = sweep(Initializations(drawn, runs), PerLane(data), jnp.inf, progress=False, throw=False)
    theta, result = jnp.asarray(ends.theta)[:, -1], ends.result
    signals = jax.vmap(truth)(jnp.arange(runs))

    def mean(values: Float[Array, "B d"]) -> Float[Array, " B"]:
        return jnp.where(is_okay(result), jnp.mean(values, axis=1), jnp.nan)

    return Simulation(
        mse=mean(jnp.square(theta - signals)),
        overlap=mean(theta * signals),
        l1=mean(jnp.abs(theta)),
        l2=mean(jnp.square(theta)),
        observed=None if observe is None else jax.tree.map(mean, observe(theta)),
        signal=signals,
        result=result,
    )
