"""The grid of dynamics and facilities: `test_dynamics_grid` tries each cell, `grid_table` makes the page."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ddln
from ddln.engine import AbstractFixedSteps, Solve, integrate

SIZE = 12  # more than there are lanes, so that there is a queue
RNG = np.random.default_rng(0)
Y = jnp.asarray(RNG.normal(size=3))
LAYERS = jnp.asarray(RNG.choice([-1.0, 1.0], (SIZE, 2, 4)) * RNG.uniform(0.5, 1.5, (SIZE, 2, 4)))
ENDS = jnp.geomspace(0.2, 3.0, SIZE)
NUMBERS = jnp.linspace(0.1, 1.0, SIZE)
KEY = jax.random.key(1)
STEPS = 20


def data(index):
    """The data set of a lane."""
    X = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), (3, 4))
    return ddln.LeastSquares(X, Y)


def lane_key(index):
    """The key of a lane, as sweeps make it."""
    return jax.random.fold_in(KEY, index)


class Kind(NamedTuple):
    """A dynamics of the grid.

    Attributes:
        label: as the page names it.
        make: from its setting, a number or a `ddln.PerLane`, and a key to the dynamics.
    """

    label: str
    make: object


def _descent(number, key):
    if isinstance(number, ddln.PerLane):
        numbers = number.values
        return ddln.DescentDynamics(
            ddln.PerLane(lambda index: optax.sgd(numbers[index] / 10)), key, 2
        )
    return ddln.DescentDynamics(optax.sgd(number / 10), key, 2)


def _scaled(number, factor=10):
    return (
        ddln.PerLane(number.values / factor)
        if isinstance(number, ddln.PerLane)
        else number / factor
    )


def _exponent(number):
    above = isinstance(number, ddln.PerLane)
    return ddln.PerLane(number.values + 3.0) if above else number + 3.0


DYNAMICS = {
    "gradient": Kind("gradient flow", lambda number, key: ddln.GradientDynamics()),
    "full": Kind(
        "gradient flow, full coordinates",
        lambda number, key: ddln.GradientDynamics(coordinates="full"),
    ),
    "decay": Kind(
        "gradient flow with weight decay", lambda number, key: ddln.GradientDynamics(number)
    ),
    "decay full": Kind(
        "weight decay, full coordinates",
        lambda number, key: ddln.GradientDynamics(number, coordinates="full"),
    ),
    "mirror": Kind("mirror flow", lambda number, key: ddln.MirrorDynamics()),
    "primal": Kind("mirror flow, primal", lambda number, key: ddln.MirrorDynamics("primal")),
    "momentum": Kind("momentum flow", lambda number, key: ddln.MomentumDynamics(number)),
    "steepest": Kind("steepest flow", lambda number, key: ddln.SteepestDynamics(_exponent(number))),
    "sam": Kind("sharpness-aware flow", lambda number, key: ddln.SamDynamics(_scaled(number))),
    # Several lanes reach the edge, none with a second mode.
    "central": Kind("central flow", lambda number, key: ddln.CentralDynamics(_scaled(number, 12))),
    "stochastic": Kind(
        "stochastic flow",
        lambda number, key: ddln.StochasticDynamics(
            key, ddln.SampleNoise(), _scaled(number), STEPS
        ),
    ),
    "descent": Kind("descent", _descent),
}

FACILITIES = {
    "jit": "`jax.jit`",
    "vmap": "`jax.vmap`",
    "reverse": "reverse mode",
    "forward": "forward mode",
    "times": "saved times",
    "event": "events",
    "dense": "dense output",
    "sweep": "`ddln.sweep`",
    "store": "with a store",
    "traced": "inside of `jit` and `grad`",
    "loss": "a loss per lane",
    "t1": "an end per lane",
    "float32": "float32",
    "export": "export to CPU, CUDA, TPU",
}


# What each cell that does not work raises.
REFUSED = {
    ("stochastic", "event"): "`event` must be None",
    ("stochastic", "dense"): "`dense` must be False",
    ("descent", "dense"): "`dense` must be False",
    ("descent", "t1"): "`t1` must be one number of steps",
}


def run(name, layers, number, loss, t1, *, index=0, **settings):
    """The trajectory of a dynamics from one start."""
    dynamics = DYNAMICS[name].make(number, lane_key(index))
    solve = Solve(t1, **settings)
    start = ddln.DeepDiagonal(layers)
    if isinstance(dynamics, AbstractFixedSteps):
        return dynamics.run(start, loss, solve)
    return integrate(dynamics, start, loss, solve, throw=False)


def end(name):
    """The end of a run: a time, or a number of steps."""
    return STEPS if name == "descent" else 1.0
