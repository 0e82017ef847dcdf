"""How long the steps of a flow are."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import optimistix as optx

from ddln._types import Array, Float

# Of the step size: with diffrax's 0.9 more steps are rejected, and stiff flows take more of them.
SAFETY = 0.8


class AbstractWrappedControl(diffrax.AbstractAdaptiveStepSizeController):
    """A controller around another one."""

    controller: eqx.AbstractVar[diffrax.AbstractAdaptiveStepSizeController]

    # diffrax passes these on to the root finders of implicit solvers.
    @property
    def rtol(self):
        return self.controller.rtol

    @property
    def atol(self):
        return self.controller.atol

    @property
    def norm(self):
        return self.controller.norm

    def wrap(self, direction):
        return self


class StepControl(AbstractWrappedControl):
    """A controller that can go on where it stopped, and chooses the first step.

    Its state holds the end of the next step too, which diffrax does not save. The first step is
    chosen by the inner controller's rule, which diffrax skips for the terms it makes of the
    caller's (then it begins with 0.01, whatever the scale of the problem).

    Attributes:
        controller: the inner controller.
        next_time: the end of the first step, where a solve goes on.
    """

    controller: diffrax.AbstractAdaptiveStepSizeController
    next_time: Float[Array, ""] | None = None

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order) -> tuple[Any, Any]:
        if self.next_time is not None:
            # diffrax asks for the first step also where it is given the state.
            return self.next_time, None
        term = terms if isinstance(terms, diffrax.ODETerm) else terms.term
        next_time, state = self.controller.init(term, t0, t1, y0, dt0, args, func, error_order)
        return next_time, (state, jnp.asarray(next_time))

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        keep, next_t0, next_t1, made_jump, state, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state[0]
        )
        return keep, next_t0, next_t1, made_jump, (state, next_t1), result


def step_control(rtol: Array, atol: Array, next_time: Array | None = None) -> StepControl:
    """The step control of a flow, from its start or from where it stopped.

    For a state (unknowns, ...) it controls the error of the unknowns. The dual is a quadrature of
    theta: its error would dilute the norm, and follows theirs.
    """
    controller = diffrax.PIDController(
        rtol=rtol, atol=atol, safety=SAFETY, norm=lambda y: optx.rms_norm(y[0])
    )
    # Pyright takes the properties for fields that are not set.
    return StepControl(controller, next_time)  # pyright: ignore[reportCallIssue]
