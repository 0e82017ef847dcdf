"""Flows from many initializations."""

from ddln.sweeps._initializations import Initializations as Initializations
from ddln.sweeps._result import SweepResult as SweepResult
from ddln.sweeps._sweep import compile_sweep as compile_sweep
from ddln.sweeps._sweep import sweep as sweep
from ddln.sweeps._sweep import sweep_runs as sweep_runs
from ddln.sweeps.store import StoredArray as StoredArray
from ddln.sweeps.store import SweepStatus as SweepStatus
from ddln.sweeps.store import SweepStore as SweepStore
