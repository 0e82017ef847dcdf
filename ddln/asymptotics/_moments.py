"""Expectations of the state evolution at given nodes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import gauss_legendre, product
from ddln._types import Array, Float, Scalar
from ddln.asymptotics._nodes import Nodes, over
from ddln.asymptotics._signal import Signal
from ddln.potentials import AbstractCurve


def _antiderivative(count: int, dtype: Any) -> Float[np.ndarray, "node node"]:
    """The matrix of int_0^x_n of the polynomial with given values at the Gauss-Legendre nodes of [0, 1]."""
    nodes, _ = np.polynomial.legendre.leggauss(count)
    legendre = np.polynomial.legendre
    rows = [legendre.legval(nodes, legendre.legint(unit, lbnd=-1)) for unit in np.eye(count)]
    values = legendre.legvander(nodes, count - 1)
    return (0.5 * np.linalg.solve(values.T, np.stack(rows)).T).astype(dtype)


def _sums(count: int, dtype: Any) -> Float[np.ndarray, "P sums"]:
    """The matrix of the sums over the panels between the start and the beginning of each panel.

    It acts on the values of the panels above the start, zero for the others, and then on those below it.
    """
    ahead = np.tri(count, k=-1)
    return np.concatenate([ahead, ahead - 1], axis=1).astype(dtype)


class Sample(eqx.Module):
    """The curves of the starts at the nodes.

    Attributes:
        theta: theta at the nodes.
        xi: xi there.
        metric: M there.
        dtheta: d theta / d x of the coordinate x of a panel.
        dxi: d xi / d x.
    """

    theta: Float[Array, "node J P K"]
    xi: Float[Array, "node J P K"]
    metric: Float[Array, "node J P K"]
    dtheta: Float[Array, "node J P K"]
    dxi: Float[Array, "node J P K"]

    @classmethod
    def at(cls, nodes: Nodes, curve: AbstractCurve, *, moving_start: bool = False) -> "Sample":
        """The curves at given nodes.

        Args:
            nodes: held fixed in derivatives; those of a sum at their xi.
            curve: the curves of the starts.
            moving_start: True where the result is differentiated in the curve.
        """
        v = nodes.v
        if nodes.xi is not None:
            if moving_start:
                v = _at_fixed_dual(v, curve)
            theta, metric = over(curve.at, v), over(curve.metric, v)
            return cls(theta, nodes.xi, metric, metric * nodes.dv, nodes.dv)
        theta, metric = over(curve.at, v), over(curve.metric, v)
        dtheta = nodes.dv * over(curve.slope, v)
        dxi = dtheta / metric

        # xi is the integral of d xi from the start.
        dtype = theta.dtype
        panels = product(jnp.asarray(gauss_legendre(len(dxi), dtype)[1]), dxi)
        sides = [jnp.where(mask, panels, 0) for mask in (nodes.beyond, ~nodes.beyond)]
        sums = jnp.asarray(_sums(panels.shape[1], dtype))
        before = jnp.moveaxis(product(sums, jnp.moveaxis(jnp.concatenate(sides, 1), 1, 0)), 0, 1)
        xi = product(jnp.asarray(_antiderivative(len(dxi), dtype)), dxi) + before[None]
        if moving_start:
            # Zero, but its derivative is not: the nodes are held fixed, and the start moves.
            moved = _moved(curve, jax.lax.stop_gradient(curve.origin))
            xi = xi + moved[None, None, None]
        return cls(theta, xi, metric, dtheta, dxi)


@jax.custom_jvp
def _moved(curve: AbstractCurve, origin: Float[Array, " K"]) -> Float[Array, " K"]:
    """xi at the start, zero, with its derivative in the curve: its value would be an integral."""
    return jnp.zeros_like(origin)


@_moved.defjvp
def _moved_jvp(primals, tangents):
    (curve, origin), (change, _) = primals, tangents
    return _moved(curve, origin), jax.jvp(lambda curve: curve.dual(origin), (curve,), (change,))[1]


@jax.custom_jvp
def _at_fixed_dual(v: Any, curve: AbstractCurve) -> Any:
    """The nodes of a sum, which stay at their xi where the curve moves."""
    return v


@_at_fixed_dual.defjvp
def _at_fixed_dual_jvp(primals, tangents):
    (v, curve), (_, change) = primals, tangents

    def tangent(v):
        moved = jax.jvp(lambda curve: curve.dual(v), (curve,), (change,))[1]
        return curve.tangent(v, change, -curve.metric(v) * moved)

    return _at_fixed_dual(v, curve), over(tangent, v)


def _component(values: Float[Array, "J K"]) -> Float[Array, "1 J 1 K"]:
    return values[None, :, None]


class Joint(eqx.Module):
    """The law of z = theta* + s V at the nodes, and that of theta* given z.

    Given z, the component and the start, theta* is normal.

    Attributes:
        mass: the probability of each node, with the weight of the quadrature.
        back: z minus the mean of theta*.
        posterior: the mean of theta*.
        variance: the variance of theta*, for each component and start.
        probabilities: the probability of each component and start.
    """

    mass: Float[Array, "node J P K"]
    back: Float[Array, "node J P K"]
    posterior: Float[Array, "node J P K"]
    variance: Float[Array, "J K"]
    probabilities: Float[Array, "J K"]

    @classmethod
    def of(
        cls,
        sample: Sample,
        signal: Signal,
        weights: Float[Array, " K"],
        noise: Float[Array, ""],
        penalty: Float[Array, ""],
    ) -> "Joint":
        """The laws for theta + gamma xi = z, with the effective noise s and the effective penalty gamma."""
        z, dz = sample.theta + penalty * sample.xi, sample.dtheta + penalty * sample.dxi

        variance = jnp.square(signal.deviations) + jnp.square(noise)
        shrinkage = jnp.square(noise) / variance
        centred = z - _component(signal.means)
        density = jnp.exp(-0.5 * jnp.square(centred) / _component(variance))
        probabilities = signal.probabilities * weights[None]
        share = probabilities / jnp.sqrt(2 * jnp.pi * variance)
        mass = dz * density * _component(share)
        panel = jnp.asarray(gauss_legendre(len(z), z.dtype)[1])
        back = _component(shrinkage) * centred
        return cls(
            mass=mass * panel[:, None, None, None],
            back=back,
            posterior=z - back,
            variance=jnp.square(signal.deviations) * shrinkage,
            probabilities=probabilities,
        )


def _inner(rows: list[Array], mass: Array) -> Float[Array, " rows"]:
    """The sums of rows * mass, by one product: each sum would take the exponentials anew."""
    return product(jnp.stack(rows).reshape(len(rows), -1), mass.reshape(-1))


class Moments(eqx.Module):
    """Expectations over the start, the signal and V, at theta + gamma xi = theta* + s V.

    Attributes:
        mse: E (theta - theta*)^2.
        divergence: E M / (M + gamma) = E d theta / d z.
        shrinkage: 1 - divergence, without cancellation.
        pull: gamma^2 E xi^2.
        overlap: E theta theta*.
        l1: E |theta|.
        l2: E theta^2.
        mass: E 1, whose distance to 1 is the error of the quadrature.
        observed: E observe(theta), or None.
    """

    mse: Scalar
    divergence: Scalar
    shrinkage: Scalar
    pull: Scalar
    overlap: Scalar
    l1: Scalar
    l2: Scalar
    mass: Scalar
    observed: Any

    @classmethod
    def of(
        cls,
        sample: Sample,
        signal: Signal,
        weights: Float[Array, " K"],
        noise: Float[Array, ""],
        penalty: Float[Array, ""],
        *,
        observe: Callable[[Array], Any] | None = None,
    ) -> "Moments":
        """The expectations for the effective noise s and the effective penalty gamma.

        Args:
            sample: the curves at nodes that were placed for this noise and penalty.
            signal: the law of theta* for each start, shape [J, K].
            weights: the probabilities of the starts.
            noise: s.
            penalty: gamma.
            observe: an elementwise function of theta, or None.
        """
        theta, xi, metric = sample.theta, sample.xi, sample.metric
        joint = Joint.of(sample, signal, weights, noise, penalty)
        mass = joint.mass
        error = joint.back - penalty * xi

        observed = None
        if observe is not None:
            observed = jax.tree.map(lambda values: jnp.sum(mass * values), observe(theta))
        # The first ones are those of the equations.
        square, divergence, shrinkage, pull = _inner(
            [
                jnp.square(error),
                metric / (metric + penalty),
                penalty / (metric + penalty),
                jnp.square(penalty * xi),
            ],
            mass,
        )
        overlap, l1, l2, total = _inner(
            [theta * joint.posterior, jnp.abs(theta), jnp.square(theta), jnp.ones_like(theta)], mass
        )
        return cls(
            mse=square + jnp.sum(joint.probabilities * joint.variance),
            divergence=divergence,
            shrinkage=shrinkage,
            pull=pull,
            overlap=overlap,
            l1=l1,
            l2=l2,
            mass=total,
            observed=observed,
        )


def moments_and_slopes(
    sample: Sample,
    signal: Signal,
    weights: Float[Array, " K"],
    noise: Float[Array, ""],
    penalty: Float[Array, ""],
) -> Float[Array, "3 4"]:
    """`mse`, `divergence`, `shrinkage` and `pull`, and their derivatives in log s and in log gamma.

    By hand, as this takes most of the time of a solution: one exponential for all of them.
    """
    joint = Joint.of(sample, signal, weights, noise, penalty)
    variance = jnp.square(signal.deviations) + jnp.square(noise)
    keep = jnp.square(noise) / variance
    centred = sample.theta + penalty * sample.xi - _component(signal.means)
    pulled = penalty * sample.xi
    error = joint.back - pulled
    moving = sample.metric / (sample.metric + penalty)
    still = penalty / (sample.metric + penalty)
    # The logarithmic derivatives of the density with d z / d x, in log s and in log gamma.
    scaled = centred / _component(variance)
    in_noise = _component(keep) * (centred * scaled - 1)
    in_penalty = still - scaled * pulled

    lost = _component(1 - keep)
    values = [jnp.square(error), moving, still, jnp.square(pulled)]
    explicit_in_noise = [4 * error * lost * joint.back, 0, 0, 0]
    explicit_in_penalty = [
        -2 * error * lost * pulled,
        -moving * still,
        moving * still,
        2 * jnp.square(pulled),
    ]
    rows = [
        values,
        [in_noise * v + e for v, e in zip(values, explicit_in_noise, strict=True)],
        [in_penalty * v + e for v, e in zip(values, explicit_in_penalty, strict=True)],
    ]
    found = _inner([value for row in rows for value in row], joint.mass).reshape(3, 4)
    # The variance of theta* given z.
    inner = joint.probabilities * joint.variance
    zero = jnp.zeros_like(noise)
    known = jnp.stack([jnp.sum(inner), jnp.sum(2 * (1 - keep) * inner), zero])
    return found.at[:, 0].add(known)
