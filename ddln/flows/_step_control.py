"""How long the steps of a flow are."""

from typing import Any

import diffrax
import equinox as eqx
import optimistix as optx

from ddln._types import Array

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
    """A controller that chooses the first step.

    By the inner controller's rule, which diffrax skips for the terms it makes of the caller's (then
    it begins with 0.01, whatever the scale of the problem).

    Attributes:
        controller: the inner controller.
    """

    controller: diffrax.AbstractAdaptiveStepSizeController

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order) -> tuple[Any, Any]:
        return self.controller.init(terms.term, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        return self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
        )


def pid_control(rtol: Array, atol: Array) -> diffrax.PIDController:
    """The rule for the steps of a flow.

    For a state (unknowns, ...) it controls the error of the unknowns. The dual is a quadrature of
    theta: its error would dilute the norm, and follows theirs.
    """
    return diffrax.PIDController(
        rtol=rtol, atol=atol, safety=SAFETY, norm=lambda y: optx.rms_norm(y[0])
    )


def step_control(rtol: Array, atol: Array) -> StepControl:
    """`pid_control` for `diffrax.diffeqsolve`."""
    # Pyright takes the properties for fields that are not set.
    return StepControl(pid_control(rtol, atol))  # pyright: ignore[reportCallIssue]
