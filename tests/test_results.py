import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import ddln


def test_codes_of_diffrax_are_kept():

    promoted = ddln.RESULTS.promote(diffrax.RESULTS.max_steps_reached)
    assert promoted == ddln.RESULTS.max_steps_reached
    assert "max_steps" in ddln.RESULTS[promoted]


def test_okay_is_success_or_an_event():
    assert ddln.is_okay(ddln.RESULTS.successful)
    assert ddln.is_okay(ddln.RESULTS.event_occurred)
    assert not ddln.is_okay(ddln.RESULTS.nonfinite_initial_loss)


def test_okay_per_lane():
    codes = ddln.RESULTS.successful, ddln.RESULTS.max_steps_reached
    code = jax.vmap(lambda okay: ddln.RESULTS.where(okay, *codes))(jnp.array([True, False]))
    np.testing.assert_array_equal(ddln.is_okay(code), [True, False])


def test_success_has_a_word():
    assert repr(ddln.RESULTS.successful).endswith("RESULTS<successful>")
    assert ddln.RESULTS[ddln.RESULTS.promote(diffrax.RESULTS.successful)] == "successful"
