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

from ddln.engine._dynamics import AbstractDynamics as AbstractDynamics
from ddln.engine._dynamics import AbstractFixedSteps as AbstractFixedSteps
from ddln.engine._dynamics import Saved as Saved
from ddln.engine._integrate import integrate as integrate
from ddln.engine._per_lane import PerLane as PerLane
from ddln.engine._settings import Solve as Solve
