"""The time that `import ddln` takes, beside `import diffrax`."""

import os
import statistics
import subprocess
import sys

PROGRAM = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def test_import(benchmark, tmp_path):
    seconds = {"diffrax": [], "ddln": []}
    # Both from compiled bytecode, as an installed package is, whatever the environment says.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run():
        # By turns, so that what else the machine does meets both.
        for name, found in seconds.items():
            command = [sys.executable, "-c", PROGRAM.format(name)]
            found.append(float(subprocess.check_output(command, env=environment)))

    benchmark.pedantic(run, rounds=9, warmup_rounds=1)
    facts = {f"import {name}": statistics.median(found[1:]) for name, found in seconds.items()}
    benchmark.extra_info.update(facts, group="shares", row="import")
