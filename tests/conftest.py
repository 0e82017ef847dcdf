"""Strict settings for the whole suite: float64, no silent dtype or rank promotion, fast compilation."""

import gc
import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Most of the suite's time is compilation, and its programs run for milliseconds. The environment is for
# processes that tests start.
jax.config.update("jax_disable_most_optimizations", True)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Tracing makes many objects that live on: to look at all of them again and again, and to note in every
# instruction where it comes from, is a tenth of the time.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_traceback_in_locations_limit", 0)
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
