"""Steps of length one."""

import diffrax


class UnitSteps(diffrax.AbstractStepSizeController):
    """Every step has the length 1, so that whole numbers of steps are exact times.

    `diffrax.ConstantStepSize` takes the length from `dt0`, and checks its sign by a host callback.
    """

    def wrap(self, direction):
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return t0 + 1, None

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        return True, t1, t1 + 1, False, None, diffrax.RESULTS.successful
