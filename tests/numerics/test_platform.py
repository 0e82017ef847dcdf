"""The machine: `ddln._numerics._platform`."""

import os

import jax

from ddln._numerics import default_platform, usable_cores


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    for name in ("SLURM_CPUS_PER_TASK", "NPROC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    assert usable_cores() == 5
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert usable_cores() == 2
    monkeypatch.setenv("NPROC", "1")
    assert usable_cores() == 1
    monkeypatch.setenv("NPROC", "many")
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert usable_cores() == (os.cpu_count() or 1)


def test_the_platform_is_that_of_the_default_device():
    assert default_platform() == jax.default_backend()
    with jax.default_device(jax.devices("cpu")[0]):
        assert default_platform() == "cpu"
