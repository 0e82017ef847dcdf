"""Settings of the benchmarks, and what is recorded beside the time."""

import os
from importlib.metadata import version

import jax

LIBRARIES = ("ddln", "jax", "jaxlib", "diffrax", "equinox", "lineax", "numpy", "scipy")


def pytest_configure(config):
    jax.config.update("jax_enable_x64", True)
    # Compile times are to be measured, not read from a disk.
    jax.config.update("jax_enable_compilation_cache", False)


def pytest_benchmark_update_machine_info(config, machine_info):
    """The hardware and the versions; no names of machines or folders."""
    cpu = machine_info["cpu"]
    described = {
        "cpu": cpu.get("brand_raw", "unknown"),
        "cores": os.cpu_count(),
        "memory in GiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{machine_info['system']} {machine_info['machine']}",
        "python": machine_info["python_version"],
        **{library: version(library) for library in LIBRARIES},
    }
    machine_info.clear()
    machine_info.update(described)
