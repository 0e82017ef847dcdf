"""The parts of the engine that flows, limits and sweeps are built from. No contract for other packages."""

from ddln.engine._adjoint import forbid_forward as forbid_forward
from ddln.engine._adjoint import forbid_reverse as forbid_reverse
from ddln.engine._arguments import check_loss as check_loss
from ddln.engine._arguments import check_model as check_model
from ddln.engine._arguments import check_start as check_start
from ddln.engine._brownian import BrownianSteps as BrownianSteps
from ddln.engine._checkpoints import record_bytes as record_bytes
from ddln.engine._dynamics import STATS as STATS
from ddln.engine._dynamics import chosen_solver as chosen_solver
from ddln.engine._per_lane import per_lane_values as per_lane_values
from ddln.engine._per_lane import take as take
from ddln.engine._per_lane import with_values as with_values
from ddln.engine._per_lane import without_values as without_values
from ddln.engine._queue import Queue as Queue
from ddln.engine._queue import integrate_all as integrate_all
from ddln.engine._queue import queue_of as queue_of
from ddln.engine._recorded import integrate_all_recorded as integrate_all_recorded
from ddln.engine._recorded import is_recordable as is_recordable
from ddln.engine._recorded import with_zeros as with_zeros
from ddln.engine._save_steps import SaveSteps as SaveSteps
from ddln.engine._settings import in_dtype as in_dtype
from ddln.engine._settings import known as known
from ddln.engine._stepper import FlowStepper as FlowStepper
from ddln.engine._stepper import StepperInputs as StepperInputs
from ddln.engine._stepper import StepperState as StepperState
from ddln.engine._unit_steps import UnitSteps as UnitSteps
