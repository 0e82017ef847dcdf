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

    mass: Float[Array, "node 2 J P K"]
    back: Float[Array, "node 2 J P K"]
    posterior: Float[Array, "node 2 J P K"]
    variance: Float[Array, "J K"]
    probabilities: Float[Array, "J K"]

    @classmethod
    def of(
        cls,
        nodes: Nodes,
        signal: Signal,
        weights: Float[Array, " K"],
        noise: Float[Array, ""],
        z: Float[Array, "node 2 J P K"],
        dz: Float[Array, "node 2 J P K"],
    ) -> "Joint":
        """The laws for values of z at the nodes, and d z / d x of the coordinate x of a panel."""

        def component(values):
            return values[None, None, :, None]

        variance = jnp.square(signal.deviations) + jnp.square(noise)
        shrinkage = jnp.square(noise) / variance
        centred = z - component(signal.means)
        density = jnp.exp(-0.5 * jnp.square(centred) / component(variance))
        probabilities = signal.probabilities * weights[None]
        share = probabilities / jnp.sqrt(2 * jnp.pi * variance)
        mass = nodes.side * dz * density * component(share)
        panel = jnp.asarray(gauss_legendre(len(z), z.dtype)[1])
        back = component(shrinkage) * centred
        return cls(
            mass=mass * panel[:, None, None, None, None],
            back=back,
            posterior=z - back,
            variance=jnp.square(signal.deviations) * shrinkage,
            probabilities=probabilities,
        )


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
        weights: Float[Array, " K"],
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
            signal: the law of theta* for each start, shape [J, K].
            weights: the probabilities of the starts.
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
        panels = product(jnp.asarray(gauss_legendre(NODES, dtype)[1]), dxi)
        before = jnp.cumsum(panels, axis=2) - panels
        xi = product(jnp.asarray(_antiderivative(dtype)), dxi) + before[None]
        if moving_start:
            # Zero, but its derivative is not: the nodes are held fixed, and the start moves.
            moved = curve.dual(jax.lax.stop_gradient(curve.origin))
            xi = xi + moved[None, None, None, None]

        joint = Joint.of(
            nodes, signal, weights, noise, theta + penalty * xi, dtheta + penalty * dxi
        )
        mass = joint.mass
        error = joint.back - penalty * xi

        def mean(values):
            return jnp.sum(mass * values)

        observed = None
        if observe is not None:
            observed = jax.tree.map(mean, observe(theta))
        return cls(
            mse=mean(jnp.square(error)) + jnp.sum(joint.probabilities * joint.variance),
            divergence=mean(metric / (metric + penalty)),
            shrinkage=mean(penalty / (metric + penalty)),
            pull=mean(jnp.square(penalty * xi)),
            overlap=mean(theta * joint.posterior),
            l1=mean(jnp.abs(theta)),
            l2=mean(jnp.square(theta)),
            mass=jnp.sum(mass),
            observed=observed,
        )
