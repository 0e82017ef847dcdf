import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import max_over_vmap

COUNTS = jnp.array([[3, 1], [2, 5]])


def test_the_same_in_all_lanes_of_all_axes():
    assert max_over_vmap(COUNTS[0, 0]) == 3
    np.testing.assert_array_equal(jax.vmap(max_over_vmap)(COUNTS[0]), [3, 3])
    np.testing.assert_array_equal(jax.vmap(jax.vmap(max_over_vmap))(COUNTS), np.full((2, 2), 5))
    np.testing.assert_array_equal(jax.vmap(max_over_vmap)(COUNTS[0] > 2), [True, True])


def test_a_loop_keeps_a_scalar_condition():
    def run(count):
        def going(carry):
            return max_over_vmap(carry[0] < count)

        return jax.lax.while_loop(going, lambda carry: (carry[0] + 1,), (jnp.zeros_like(count),))

    jaxpr = jax.make_jaxpr(jax.vmap(run))(COUNTS[0])
    (loop,) = (equation for equation in jaxpr.eqns if equation.primitive.name == "while")
    (condition,) = loop.params["cond_jaxpr"].jaxpr.outvars
    assert condition.aval.shape == ()
    np.testing.assert_array_equal(jax.vmap(run)(COUNTS[0])[0], [3, 3])
