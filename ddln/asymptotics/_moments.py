"""Expectations of the state evolution at given nodes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import gauss_legendre, product
from ddln._types import Array, Float, Scalar
from ddln.asymptotics._nodes import NODES, Nodes, over
from ddln.asymptotics._signal import Signal
from ddln.potentials import AbstractCurve


def _antiderivative(dtype: Any) -> Float[np.ndarray, "node node"]:
    """The matrix of int_0^x_n of the polynomial with given values at the Gauss-Legendre nodes of [0, 1]."""
    nodes, _ = np.polynomial.legendre.leggauss(NODES)
    legendre = np.polynomial.legendre
    rows = [legendre.legval(nodes, legendre.legint(unit, lbnd=-1)) for unit in np.eye(NODES)]
    values = legendre.legvander(nodes, NODES - 1)
    return (0.5 * np.linalg.solve(values.T, np.stack(rows)).T).astype(dtype)


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
    def at_nodes(
        cls,
        nodes: Nodes,
        curve: AbstractCurve,
        signal: Signal,
        noise: Float[Array, ""],
        penalty: Float[Array, ""],
        *,
        observe: Callable[[Array], Any] | None = None,
        moving_start: bool = False,
    ) -> "Moments":
        """The expectations for the effective noise s and the effective penalty gamma.

        Args:
            nodes: placed for this noise and penalty, and held fixed in derivatives.
            curve: the curves of the starts.
            signal: the law of theta*.
            noise: s.
            penalty: gamma.
            observe: an elementwise function of theta, or None.
            moving_start: True where the result is differentiated in the curve.
        """
        v, dtype = nodes.v, nodes.v.dtype
        theta, metric = over(curve.at, v), over(curve.metric, v)
        dtheta = nodes.dv * over(curve.slope, v)
        dxi = dtheta / metric

        # xi is the integral of d xi from the start.
        weights = jnp.asarray(gauss_legendre(NODES, dtype)[1])
        panels = product(weights, dxi)
        before = jnp.cumsum(panels, axis=2) - panels
        xi = product(jnp.asarray(_antiderivative(dtype)), dxi) + before[None]
        if moving_start:
            # Zero, but its derivative is not: the nodes are held fixed, and the start moves.
            moved = curve.dual(jax.lax.stop_gradient(curve.origin))
            xi = xi + moved[None, None, None, None]

        # z = theta + gamma xi, and the law of z: given z, theta* is normal with the mean `posterior`.
        def component(values):
            return values[None, None, :, None, None]

        z = theta + penalty * xi
        variance = jnp.square(signal.deviations) + jnp.square(noise)
        shrinkage = jnp.square(noise) / variance
        centred = z - component(signal.means)
        density = jnp.exp(-0.5 * jnp.square(centred) / component(variance))
        share = signal.probabilities / jnp.sqrt(2 * jnp.pi * variance) / v.shape[-1]
        mass = nodes.side * (dtheta + penalty * dxi) * density * component(share)
        mass = mass * weights[:, None, None, None, None]
        back = component(shrinkage) * centred
        error = back - penalty * xi
        posterior = z - back

        def mean(values):
            return jnp.sum(mass * values)

        residual = jnp.sum(signal.probabilities * jnp.square(signal.deviations) * shrinkage)
        observed = None
        if observe is not None:
            observed = jax.tree.map(mean, observe(theta))
        return cls(
            mse=mean(jnp.square(error)) + residual,
            divergence=mean(metric / (metric + penalty)),
            shrinkage=mean(penalty / (metric + penalty)),
            pull=mean(jnp.square(penalty * xi)),
            overlap=mean(theta * posterior),
            l1=mean(jnp.abs(theta)),
            l2=mean(jnp.square(theta)),
            mass=jnp.sum(mass),
            observed=observed,
        )
