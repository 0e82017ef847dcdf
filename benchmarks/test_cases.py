"""One test a row of `cases.CASES`: its time, error, steps, compile time and memory."""

import resource

import jax
import numpy as np
import pytest

from benchmarks.cases import CASES, Case


def peak_mebibytes() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_case(benchmark, pytestconfig, case: Case):
    jax.config.update("jax_num_cpu_devices", case.devices)
    jax.block_until_ready(case.setting.layers)
    facts = {"group": case.group, "row": case.name, "MiB before": peak_mebibytes()}
    with case.method(case.setting) as prepared:
        warmup = 1 if case.rounds > 1 else 0
        answer = benchmark.pedantic(prepared.run, rounds=case.rounds, warmup_rounds=warmup)
        facts["compile seconds"] = prepared.compile_seconds
        facts["MiB at most"] = peak_mebibytes()
    facts["lanes"] = len(case.setting.layers)
    facts.update(answer.facts)
    if answer.steps is not None:
        steps = np.asarray(answer.steps)
        facts["steps"] = [int(steps.min()), float(np.median(steps)), int(steps.max())]
    if case.error is not None:
        reference = case.setting.reference(pytestconfig.cache.mkdir("ddln-references"))
        facts["error"] = float(np.abs(np.asarray(answer.theta) - reference).max())
        assert facts["error"] < case.error
    benchmark.extra_info.update(facts)
