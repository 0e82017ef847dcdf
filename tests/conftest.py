"""Strict settings for the whole suite: float64, no silent dtype or rank promotion, fast compilation."""

import gc
import os
from pathlib import Path

import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Most of the suite's time is tracing and compilation, and its programs run for milliseconds.
jax.config.update("jax_disable_most_optimizations", True)
# Else every instruction notes where it comes from.
jax.config.update("jax_traceback_in_locations_limit", 0)
# For processes that tests start.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Tracing makes many objects that live on, and the collector would look at all of them again and again.
gc.set_threshold(100_000, 20, 20)
if jax.__version_info__[:2] == (0, 10):
    # Halves it again: fewer kernels, one module, no passes that make loops faster. Other
    # versions may not know the flags, and XLA aborts on such a flag.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
        "--xla_disable_hlo_passes=while-loop-invariant-code-motion,simplify-while-loops,"
        "while-loop-constant-sinking",
    )

# Tests that `pytest` leaves out and `pytest -m slow` runs.
SLOW = set(Path(__file__).with_name("slow.txt").read_text(encoding="utf-8").splitlines())

MAPS = Path("/proc/self/maps")
# Linux allows a process 65530 memory maps. Compiled programs hold some each, and LLVM aborts beyond.
MANY_MAPS = 40_000


def pytest_configure(config):
    if config.option.markexpr == "slow":
        # A fifth of the time; the tests that run by default check the types of every module.
        jaxtyping.config.update("jaxtyping_disable", True)


def slow_line(nodeid: str) -> str | None:
    """The line of `slow.txt` that names this test: its id, or that without parameters."""
    names = (nodeid, nodeid.split("[")[0])
    return next((name for name in names if name in SLOW), None)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config, items):
    """Marks the slow tests; a line of `slow.txt` that names no test of a whole file is an error."""
    found = set()
    for item in items:
        if line := slow_line(item.nodeid):
            item.add_marker(pytest.mark.slow)
            found.add(line)
    whole = {item.nodeid.split("::")[0] for item in items}
    if any("::" in argument for argument in config.args):
        whole = set()
    unknown = [line for line in sorted(SLOW) if line.split("::")[0] in whole and line not in found]
    if unknown:
        raise pytest.UsageError(f"tests/slow.txt names tests that do not exist: {unknown}")


@pytest.fixture(scope="module", autouse=True)
def _drop_compiled_programs():
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def unchecked():
    """The package without the run-time type checks of the suite, as users have it."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
