"""The numerical potential and its flow map (`_numerical`, `_flow_map`, `_mirror_hypotheses`)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln._types import Array
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.potentials import NumericalPotential, potential


@pytest.fixture
def _with_optimizations():
    """Without them, and without fusion emitters, jaxlib 0.10.2 compiles some reverse modes wrongly."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


_MIXING = jnp.array([[1.0, 0.5, 0.0], [-0.3, 1.0, 0.2], [0.1, 0.0, 1.0]])


class _MixedSquares(AbstractParameterization):
    """theta = A (w^2): commuting, with a metric that is not diagonal."""

    w: Array

    def effective(self):
        return _MIXING.astype(self.w.dtype) @ jnp.square(self.w)

    @property
    def homogeneity(self):
        return 2


class _MixedLayers(AbstractParameterization):
    """theta = A (c u v w): the same, of degree 3."""

    network: DeepDiagonal

    def effective(self):
        return _MIXING @ self.network.effective()

    @property
    def homogeneity(self):
        return 3


class _Exponential(AbstractParameterization):
    """theta = exp(w): not homogeneous. M = theta^2, so xi = 1/theta_0 - 1/theta."""

    w: Array

    def effective(self):
        return jnp.exp(self.w)


class _Factorized(AbstractParameterization):
    """theta = u v^T: not commuting."""

    u: Array
    v: Array

    def effective(self):
        return self.u[:, None] * self.v[None, :]


def _methods(q, theta, xi, other):
    return {
        "mirror": q.mirror_map(theta),
        "value": q.value(theta),
        "inverse": q.inverse_mirror_map(xi),
        "conjugate": q.conjugate(xi),
        "bregman": q.bregman(theta, other),
        "hessian": q.hessian_diagonal(theta),
    }


def test_it_agrees_with_a_closed_form_where_the_metric_is_not_diagonal():
    network = DeepDiagonal(jax.random.normal(jax.random.key(0), (3, 3)), factor=1.3)
    q, exact = potential(_MixedLayers(network)), potential(network)
    assert isinstance(q, NumericalPotential)
    # Q(theta) = E(A^-1 theta) with the potential E of the network, and so grad Q = A^-T grad E.
    inner = exact.start * jnp.array([3.0, 1.0, -1.0]) + 0.1
    other = exact.start * 1.2
    expected = eqx.filter_jit(_methods)(exact, inner, exact.mirror_map(inner), other)
    inverse = jnp.linalg.inv(_MIXING)
    xi = inverse.T @ expected["mirror"]
    got = _methods(q, _MIXING @ inner, xi, _MIXING @ other)
    expected["mirror"], expected["inverse"] = xi, _MIXING @ inner
    hessian = inverse.T @ jnp.diag(expected["hessian"]) @ inverse
    expected["hessian"] = jnp.diagonal(hessian)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-10, err_msg=name)


def test_without_homogeneity_the_conjugate_is_a_line_integral():
    w = jnp.array([0.0, 0.5])
    q, start = potential(_Exponential(w)), jnp.exp(w)
    theta = jnp.array([3.0, 0.2])
    xi = 1 / start - 1 / theta
    got = _methods(q, theta, xi, start)
    np.testing.assert_allclose(got["mirror"], xi, rtol=1e-10)
    np.testing.assert_allclose(got["conjugate"], jnp.sum(jnp.log(theta / start)), rtol=1e-10)
    expected = jnp.sum(theta / start - 1 - jnp.log(theta / start))
    np.testing.assert_allclose(got["value"], expected, rtol=1e-10)
    np.testing.assert_allclose(got["bregman"], expected, rtol=1e-10)


def _start_and_points():
    return jnp.array([0.0, 0.5]), jnp.array([3.0, 0.2]), jnp.array([0.3, -1.0])


@pytest.mark.usefixtures("_with_optimizations")
def test_reverse_mode_of_the_potential_and_in_the_weights():
    w, theta, _ = _start_and_points()

    def numerical(w, theta):
        q = potential(_Exponential(w))
        return jnp.append(q.mirror_map(theta), q.value(theta))

    def closed(w, theta):
        start = jnp.exp(w)
        value = jnp.sum(theta / start - 1 - jnp.log(theta / start))
        return jnp.append(1 / start - 1 / theta, value)

    got = jax.jit(jax.jacrev(numerical, argnums=(0, 1)))(w, theta)
    for a, b in zip(got, jax.jacfwd(closed, argnums=(0, 1))(w, theta), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_forward_mode_of_the_conjugate_and_in_the_weights():
    w, _, xi = _start_and_points()

    def numerical(w, xi):
        q = potential(_Exponential(w))
        return jnp.append(q.inverse_mirror_map(xi), q.conjugate(xi))

    def closed(w, xi):
        theta = jnp.exp(w) / (1 - jnp.exp(w) * xi)
        return jnp.append(theta, jnp.sum(jnp.log(theta) - w))

    got = jax.jit(jax.jacfwd(numerical, argnums=(0, 1)))(w, xi)
    for a, b in zip(got, jax.jacfwd(closed, argnums=(0, 1))(w, xi), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_float32():
    network = _MixedSquares(jnp.array([0.5, 1.0, 1.5], jnp.float32))
    q = potential(network)
    xi = jnp.array([0.2, -0.1, 0.1], jnp.float32)
    theta = q.inverse_mirror_map(xi)
    assert theta.dtype == jnp.float32
    np.testing.assert_allclose(q.mirror_map(theta), xi, rtol=1e-4)


def test_no_mirror_flow_is_an_error_that_says_why():
    with pytest.raises(ValueError, match=r"_Factorized.*do not commute.*residual is \d\.\de-01"):
        potential(_Factorized(jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])))
    with pytest.raises(ValueError, match=r"not regular.*rank 2 where theta has 3 coordinates"):
        potential(_MixedSquares(jnp.array([0.0, 1.0, 1.0])))


def test_points_out_of_reach():
    q = potential(_Exponential(jnp.zeros(2)))
    beyond = jnp.array([0.5, 1.0])
    with pytest.raises(ValueError, match="`xi` must be in the domain"):
        q.conjugate(beyond)
    assert jnp.isnan(jax.vmap(q.conjugate)(beyond[None]))
    assert q.in_domain(jnp.array([0.5, 2.0])).all()
    assert not q.in_domain(jnp.array([0.5, -1.0])).any()


def test_it_exports():
    def methods(w, theta):
        q = potential(_MixedSquares(w))
        return q.value(theta), q.inverse_mirror_map(0.1 * theta)

    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(jax.jit(methods), platforms=platforms)(shape, shape)
    assert "callback" not in exported.mlir_module()
