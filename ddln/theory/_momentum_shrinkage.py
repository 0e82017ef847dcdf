"""With two layers momentum shrinks the gaps, until u + v or u - v first vanishes."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._momentum import pair_errors, pair_record
from ddln.theory._path import path


def momentum_shrinkage(trajectory: Trajectory, loss: Loss) -> Check:
    """|u^2 - v^2| decreases from rest, as long as neither u + v nor u - v changes sign.

    Compared are the saved times with those before them, as |gap(t)| / |gap(0)|, but for times from
    which on a gap changes by less than its numerical error. After a change of
    sign the gap grows from zero and may end larger than it was: then the hypothesis is not met,
    and the sides tell what happened. `sufficient_inertia` is a bound below which it is met.

    Args:
        trajectory: a `ddln.momentum_flow` of a `DeepDiagonal` with two layers, in reduced coordinates.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, coordinate), shape [T, d]. Its hypothesis is that nothing changes
        sign up to the last saved time, in between saved times included. Coordinates with
        |u| = |v| at the start keep a gap of zero, and are not compared.

    Raises:
        ValueError: if the trajectory is not such a flow.

    Source: Papazov et al. 2024, made precise: with h_+- = (log|u +- v|)', S = h_+ + h_- obeys
    S' + (d / lambda) S = -(h_+^2 + h_-^2), so S <= 0 from rest. See "Noise and momentum" in the
    documentation.
    """
    pair = pair_record(trajectory)
    start = deep_diagonal(trajectory.initial).layers
    rows = path(trajectory)
    amplitude = jnp.exp(jnp.sum(pair.growth, axis=1))
    ratio = amplitude * jnp.abs(jnp.prod(jnp.cos(pair.angle), axis=1))
    error = amplitude * jnp.sum(pair_errors(trajectory, pair), axis=1)
    before = jnp.concatenate([jnp.ones_like(ratio[:1]), ratio[:-1]])
    tolerance = error + jnp.concatenate([jnp.zeros_like(error[:1]), error[:-1]])
    ahead = jnp.maximum(jnp.abs(before - ratio), jnp.abs(before - ratio[-1:]))
    changed = jnp.any(pair.sign_changed & rows.reached[:, None, None])
    untied = jnp.abs(start[0]) != jnp.abs(start[1])
    return Check(
        name="momentum_shrinkage",
        source="Papazov et al. 2024, where no sign changes",
        statement="|u^2 - v^2| decreases from rest, until u + v or u - v first vanishes",
        relation="<=",
        axes=("time", "coordinate"),
        lhs=ratio,
        rhs=before,
        tolerance=tolerance,
        compared=rows.reached[:, None] & untied[None, :] & (ahead > tolerance),
        hypotheses={"neither u + v nor u - v changes sign": ~changed},
    )
