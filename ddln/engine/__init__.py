"""Integration of any dynamics, from one start or from many.

A dynamics is an `AbstractDynamics`; `integrate` runs it once, and a `FlowStepper` step by step, so that a
sweep can share the lanes of one program between many integrations. The engine stands on diffrax: solvers,
terms, interpolation and result codes are diffrax's. These parts have a counterpart there:

| diffrax | here | because |
| --- | --- | --- |
| loop of `diffeqsolve` | `FlowStepper` | stops between steps, so that a finished lane is refilled |
| `SaveAt(ts=...)` | `SaveTimes` | no host callback, so programs export; rows travel with the state |
| `PIDController` | `StepControl` | first step by the problem's scale; the error of the unknowns alone |
| `Event` | `locate` | any dtype; the step with the event is replayed, so the adjoint sees none |
| `ConstantStepSize` | `UnitSteps` | whole numbers of steps are exact times; no host callback |
| `UnsafeBrownianPath` | `BrownianSteps` | allows reverse mode |
| `RecursiveCheckpointAdjoint` | recorded adjoint | replays the accepted steps; none is chosen anew |
"""

from ddln.engine._adjoint import forbid_forward as forbid_forward
from ddln.engine._adjoint import forbid_reverse as forbid_reverse
from ddln.engine._arguments import check_loss as check_loss
from ddln.engine._arguments import check_model as check_model
from ddln.engine._arguments import check_start as check_start
from ddln.engine._brownian import BrownianSteps as BrownianSteps
from ddln.engine._checkpoints import record_bytes as record_bytes
from ddln.engine._dynamics import STATS as STATS
from ddln.engine._dynamics import AbstractDynamics as AbstractDynamics
from ddln.engine._dynamics import AbstractFixedSteps as AbstractFixedSteps
from ddln.engine._dynamics import Saved as Saved
from ddln.engine._dynamics import chosen_solver as chosen_solver
from ddln.engine._integrate import integrate as integrate
from ddln.engine._per_lane import PerLane as PerLane
from ddln.engine._per_lane import per_lane_values as per_lane_values
from ddln.engine._per_lane import take as take
from ddln.engine._per_lane import with_values as with_values
from ddln.engine._per_lane import without_values as without_values
from ddln.engine._queue import WIDTH as WIDTH
from ddln.engine._queue import integrate_all as integrate_all
from ddln.engine._recorded import integrate_all_recorded as integrate_all_recorded
from ddln.engine._recorded import is_recordable as is_recordable
from ddln.engine._recorded import with_zeros as with_zeros
from ddln.engine._save_steps import SaveSteps as SaveSteps
from ddln.engine._settings import Solve as Solve
from ddln.engine._settings import in_dtype as in_dtype
from ddln.engine._settings import known as known
from ddln.engine._stepper import FlowStepper as FlowStepper
from ddln.engine._stepper import StepperInputs as StepperInputs
from ddln.engine._stepper import StepperState as StepperState
from ddln.engine._unit_steps import UnitSteps as UnitSteps
