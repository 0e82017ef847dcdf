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
    # This halves it again. Other versions may not know the flag, and XLA aborts on such a flag.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

MAPS = Path("/proc/self/maps")
# Linux allows a process 65530 memory maps. Compiled programs hold some each, and LLVM aborts beyond.
MANY_MAPS = 20_000


@pytest.fixture(scope="module", autouse=True)
def _drop_compiled_programs():
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def unchecked():
    """The package without the run-time type checks of the suite, as users have it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
