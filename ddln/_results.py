"""Result codes: what became of one solve, a value per lane under `jax.vmap`."""

import warnings

import diffrax
import jax

from ddln._types import Array, Bool

# Equinox warns of the new message for a code of diffrax.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")

    class RESULTS(diffrax.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
        """Why a computation ended. Extends `diffrax.RESULTS`; `RESULTS[code]` is the message."""

        # diffrax has no word for it.
        successful = "successful"
        nonfinite_initialization = (
            "The initialization has NaN or infinite entries, so the flow was not started. "
            "Check the leaves of the parameterization."
        )
        nonfinite_initial_loss = (
            "The loss or its gradient is not finite at the initialization, so the flow was not "
            "started. Reduce the scale of the initialization, or use float64."
        )
        underflowing_initialization = (
            "The metric at the initialization underflows, so the flow could not move and was not started. "
            "Use float64, or a larger scale of the initialization."
        )
        diverged = (
            "The next iterate would not have been finite: the step size is too large. The last finite one "
            "was kept, and `num_steps` is its number. Use a smaller step size."
        )
        limit_out_of_reach = (
            "The limit was not found, and may not exist in the reach of the flow: coordinates with tied "
            "layers keep their sign, and coordinates with two layers at zero never move. "
            "Perturb those layers, or increase `max_steps`."
        )
        minimum_out_of_reach = (
            "The path ends where the loss is not least: coordinates that keep their sign, or never move, "
            "hold it back. Perturb tied layers, and layers at zero."
        )
        ambiguous_plateau = (
            "Dependent columns of `X` are active together, and the choice of the flow among several "
            "minimizers of the loss was not found: the rows are minimizers, but others are too. Perturb `X`."
        )
        ambiguous_minimum = (
            "The penalized loss has more than one minimizer, of which this is one; that of the flow depends "
            "on its start. Integrate with `ddln.gradient_flow`, or change `weight_decay` or `X` a little."
        )
        minimum_at_infinity = (
            "The loss has no minimizer: it falls without end along a direction, such as a logistic loss of "
            "separable data, or counts of 0. Check that `y` is in the range of the model; see "
            "`ddln.max_margin_l1` for the direction of separable data, or use weight decay."
        )
        no_orbit = (
            "No orbit of period two was found next to the start: Newton's method did not converge, or to a "
            "stationary point. Start from a late iterate of descent with a step above 2 / sharpness."
        )
        too_many_modes = (
            "More eigenvalues of the Hessian went beyond the edge of stability than `modes`, so that the "
            "central flow does not hold them back. Use more `modes`, or a smaller `step_size`."
        )
        unusable_weight_decay = (
            "The weight decay is negative, not finite, or for a limit zero, so that nothing was computed. "
            "Use a positive one; `None` is none."
        )
        no_fixed_point = (
            "The equations of the state evolution have no solution, or none was found. For a ratio of 1 or "
            "more add noise or a penalty; coordinates with tied layers keep their sign, and may not meet "
            "the data; otherwise increase `max_steps`."
        )
        invalid_times = (
            "The end `t1` must be finite and positive, and the times `ts` must lie in [0, t1], but they do "
            "not, so the flow was not started."
        )
        unresolved_time = (
            "The next step is shorter than the distance of two numbers at the time that was reached, so the "
            "flow could not go on. float32 cannot resolve the time: use float64, or a larger tolerance."
        )
        undefined_event = (
            "The event is NaN, so the flow was stopped. Return a number or a truth value."
        )


def is_okay(result: RESULTS) -> Bool[Array, "..."]:
    """Mask of the successful results: the run reached its end, or an event stopped it."""
    with jax.ensure_compile_time_eval():
        return (result == RESULTS.successful) | (result == RESULTS.event_occurred)
