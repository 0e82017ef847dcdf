"""The time that `import ddln` takes, beside `import diffrax`."""

import statistics
import subprocess
import sys

PROGRAM = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def test_import(benchmark):
    seconds = {"diffrax": [], "ddln": []}

    def run():
        # By turns, so that what else the machine does meets both.
        for name, found in seconds.items():
            command = [sys.executable, "-c", PROGRAM.format(name)]
            found.append(float(subprocess.check_output(command)))

    benchmark.pedantic(run, rounds=9, warmup_rounds=1)
    facts = {f"import {name}": statistics.median(found[1:]) for name, found in seconds.items()}
    benchmark.extra_info.update(facts, group="shares", row="import")
