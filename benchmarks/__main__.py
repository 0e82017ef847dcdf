"""The one command: `python -m benchmarks` times every row in a process of its own, then reports.

`python -m benchmarks "case H" LSODA` takes the rows whose names contain one of these words; `--missing`
those without a result; `--report` none. Results are kept in results.json, a row at a time.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import RESULTS, report

FOLDER = Path(__file__).parent
# Seconds for a row, its compilation and its reference.
PATIENCE = 900


def row_ids() -> list[str]:
    """The node ids of all rows."""
    command = [sys.executable, "-m", "pytest", str(FOLDER), "--collect-only", "-q"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        raise SystemExit(listed.stdout + listed.stderr)
    return [line for line in listed.stdout.splitlines() if "::" in line]


def _seconds_of_others() -> float:
    """Processor time of all processes but this one and its children; 0 where it is not known."""
    file = Path("/proc/stat")
    if not file.exists():
        return 0.0
    user, nice, system, *_ = map(int, file.read_text().split()[1:4])
    own = os.times()
    everyone = (user + nice + system) / os.sysconf("SC_CLK_TCK")
    return everyone - own.user - own.system - own.children_user - own.children_system


def time_row(row: str) -> str | None:
    """Runs a row in a new process and keeps its numbers; returns what went wrong, if anything did."""
    started, others = time.perf_counter(), _seconds_of_others()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "benchmark.json"
        command = [sys.executable, "-m", "pytest", row, "-q", f"--benchmark-json={file}"]
        try:
            finished = subprocess.run(
                command, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return f"No end after {PATIENCE} s."
        if finished.returncode != 0:
            return finished.stdout + finished.stderr
        found = json.loads(file.read_text())
    others = (_seconds_of_others() - others) / (time.perf_counter() - started)
    (benchmark,) = found["benchmarks"]
    stats = benchmark["stats"]
    kept = {
        **benchmark["extra_info"],
        "seconds": stats["median"],
        "fastest": stats["min"],
        "slowest": stats["max"],
        "rounds": stats["rounds"],
        "cores busy with other work": round(others, 2),
        "date": found["datetime"][:10],
        "commit": found["commit_info"]["id"][:12] + "+" * found["commit_info"]["dirty"],
    }
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machines": [], "rows": {}}
    machine = found["machine_info"]
    if machine not in results["machines"]:
        results["machines"].append(machine)
    kept["machine"] = results["machines"].index(machine)
    results["rows"][row] = kept
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("words", nargs="*", help="only rows whose names contain one of these")
    parser.add_argument("--missing", action="store_true", help="only rows without a result")
    parser.add_argument("--report", action="store_true", help="time nothing")
    options = parser.parse_args()
    failed = []
    rows = [] if options.report else row_ids()
    if options.words:
        rows = [row for row in rows if any(word in row for word in options.words)]
    if options.missing and RESULTS.exists():
        known = json.loads(RESULTS.read_text())["rows"]
        rows = [row for row in rows if row not in known]
    for i, row in enumerate(rows):
        print(f"[{i + 1}/{len(rows)}] {re.sub(r'.*::', '', row)}", flush=True)
        trouble = time_row(row)
        if trouble is not None:
            failed.append(row)
            print(trouble)
    report()
    if failed:
        raise SystemExit(f"{len(failed)} rows failed: {failed}")


if __name__ == "__main__":
    main()
