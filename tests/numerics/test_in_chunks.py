import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import in_chunks


def test_all_axes_are_run_in_chunks():
    def steps(start, length):
        def body(state):
            return state[0] + 1, jax.tree.map(lambda leaf: 2 * leaf, state[1])

        return jax.lax.while_loop(lambda state: state[0] < length, body, (jnp.asarray(0.0), start))

    function = in_chunks(steps, 4)
    lengths = jnp.arange(15, dtype=float).reshape(5, 3)
    start = {"a": jnp.asarray(1.0), "b": jnp.ones((2,))}
    nested = jax.vmap(jax.vmap(function, (None, 0)), (None, 0))
    counts, found = jax.jit(nested)(start, lengths)
    np.testing.assert_array_equal(counts, lengths)
    np.testing.assert_array_equal(found["a"], 2.0**lengths)
    np.testing.assert_array_equal(found["b"], 2.0 ** np.stack([lengths] * 2, -1))
    # 15 lanes are four chunks of four: the loop over lanes carries arrays of that length.
    text = str(jax.make_jaxpr(nested)(start, lengths))
    assert "length=4" in text
    np.testing.assert_array_equal(jax.vmap(function, (None, 0))(start, lengths[0])[0], lengths[0])
    assert function(start, jnp.asarray(3.0))[1]["a"] == 8
