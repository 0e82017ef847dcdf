"""Kernels of the notebooks compile fast, as the tests do: most of their time is compilation."""

import jax
import pytest

# Those of the tests.
XLA_FLAGS = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_disable_hlo_passes=while-loop-invariant-code-motion,simplify-while-loops,"
    "while-loop-constant-sinking"
)


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        environment.setenv("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
        if jax.__version_info__[:2] == (0, 10):
            # Other versions may not know the flag, and XLA aborts on such a flag.
            environment.setenv("XLA_FLAGS", XLA_FLAGS)
        return (yield)
