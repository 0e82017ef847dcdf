"""Kernels of the notebooks compile fast, as the tests do: most of their time is compilation."""

import jax
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        environment.setenv("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
        if jax.__version_info__[:2] == (0, 10):
            # Other versions may not know the flag, and XLA aborts on such a flag.
            environment.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
        return (yield)
