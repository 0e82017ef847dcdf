"""Tests the tests: changes the code in small ways, one at a time, and says which changes no test notices.

    pip install cosmic-ray coverage
    python .ci/mutants.py --out found.jsonl                        # one change of each line
    python .ci/mutants.py ddln/theory/_rows.py --out found.jsonl   # of one module
    python .ci/mutants.py --again --out found.jsonl                # those not noticed, once more

A place is an operator, a comparison, a number, a boolean, a `not` or a minus sign; type annotations,
text and `zip(strict=True)` are left out. A place is changed in one way, drawn at random among
`OPERATORS`, and of the places of a line `--rounds` are tried. All runs draw the same.

A first run under coverage says which tests execute which lines. A change is tried against the tests
that execute its statement, as far as a few seconds reach; with `--again` against all of them and all
else in their files. One process imports the libraries and forks for each change.

`.ci/mutants.json` has the counts so far and, by hand, the reason of each known survivor. At the end the
others are shown.
"""

import argparse
import ast
import collections
import functools
import importlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMIT = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True)
WORK = Path(tempfile.gettempdir()) / f"ddln-mutants-{COMMIT.strip()}"
# Fewer tests of a change are tried if they take longer, unless `--again`.
SECONDS = 15
DATES = itertools.count(int(time.time()))
KNOWN = ROOT / ".ci/mutants.json"
FOLDERS = ("theory", "potentials")
BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd")
COMPARISONS = ("LtE_Gt", "Lt_GtE", "GtE_Lt", "Gt_LtE", "Lt_LtE", "Gt_GtE", "Eq_NotEq", "NotEq_Eq")
OPERATORS = [
    *(f"core/ReplaceBinaryOperator_{name}" for name in BINARY),
    *(f"core/ReplaceComparisonOperator_{name}" for name in (*COMPARISONS, "Is_IsNot", "IsNot_Is")),
    *(f"core/ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Invert", "Not")),
    *(f"core/Replace{name}" for name in ("AndWithOr", "OrWithAnd")),
    *(f"core/Replace{name}" for name in ("TrueWithFalse", "FalseWithTrue")),
    "core/NumberReplacer",
]
# What all children need: nothing that starts a thread, which a fork would lose.
LIBRARIES = ("diffrax", "optax", "scipy.optimize", "scipy.integrate", "scipy.special", "mpmath")
LIBRARIES += ("pytest", "nbmake.pytest_items", "hypothesis", "jaxtyping", "beartype", "zarr")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(WORK / "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
sys.dont_write_bytecode, sys.pycache_prefix = False, str(WORK / "bytecode")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=1, help="places of each line")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="try only what was not noticed before")
    parser.add_argument("--out", type=Path, default=Path("found.jsonl"), help="is extended")
    options = parser.parse_args()
    known = [path for folder in FOLDERS for path in (ROOT / "ddln" / folder).rglob("_[a-z]*.py")]
    modules = sorted(str(p.resolve().relative_to(ROOT)) for p in options.modules or known)
    changes = [change for module in modules for change in changes_of(module, options.rounds)]
    before = latest(options.out)
    if options.again:
        survivors = {k for k in before if before[k]["by"] is None} - set(reasons())
        changes = [c for c in changes if key(c) in survivors]
    else:
        changes = [c for c in changes if key(c) not in before]
    # Cut short, a run has tried the same share of every module.
    sizes, ranks = collections.Counter(c["module"] for c in changes), collections.Counter()
    for change in changes:
        change["share"] = ranks[change["module"]] / sizes[change["module"]]
        ranks[change["module"]] += 1
    changes.sort(key=lambda change: change.pop("share"))
    for name in LIBRARIES:
        importlib.import_module(name)
    covered = coverage()
    workers = []
    for job in range(options.jobs):
        if (pid := os.fork()) == 0:
            copy = copied(WORK / f"copy{job}")
            for change in changes[job :: options.jobs]:
                try_change(copy, change, covered, options)
            os._exit(0)
        workers.append(pid)
    for pid in workers:
        os.waitpid(pid, 0)
    report(latest(options.out), modules, options.rounds)


def try_change(copy: Path, change: dict, covered: dict, options: argparse.Namespace) -> None:
    """Adds a line to the results: the change, and the test that fails with it, or None."""
    tests, began = tests_of_line(change, covered), time.monotonic()
    if not options.again:
        tests = affordable(tests, covered["seconds"])
    watch = Watch(tests, covered["seconds"], options.again)
    path = copy / change["module"]
    path.write_text(change.pop("code"))
    # Bytecode is found by size and date in seconds: each change has a date of its own.
    date = next(DATES)
    os.utime(path, (date, date))
    by = in_child(copy, lambda: pytest_main(watch))
    shutil.copy2(ROOT / change["module"], path)
    found = change | {"by": by, "seconds": round(time.monotonic() - began, 1)}
    with options.out.open("a") as file:
        file.write(json.dumps(found) + "\n")


def key(change: dict) -> tuple[str, ...]:
    """What a change is known by; lines may move."""
    return tuple(change[name] for name in ("module", "function", "old", "new"))


def latest(out: Path) -> dict[tuple, dict]:
    """The last result of each change."""
    lines = out.read_text().splitlines() if out.exists() else []
    return {key(change): change for change in map(json.loads, lines)}


def reasons() -> dict[tuple, str]:
    """Why no test can notice a change, of those for which this is known."""
    groups = json.loads(KNOWN.read_text())["survivors"]
    return {key(change): group["why"] for group in groups for change in group["changes"]}


def report(found: dict[tuple, dict], modules: list[str], rounds: int) -> None:
    """Counts by module, the survivors that have no reason, and the reasons that have no survivor."""
    known = set(reasons())
    for module in modules:
        all_keys = {key(change) for change in changes_of(module, rounds)}
        tried = {k for k in found if k in all_keys}
        survived = {k for k in tried if found[k]["by"] is None}
        print(f"{module}: {len(all_keys)} places, {len(tried)} tried, {len(survived)} survived")
        for _, _, old, new in survived - known:
            print(f"    no reason known for\n    - {old}\n    + {new}")
        for _, _, old, new in {k for k in known if k[0] == module} - all_keys:
            print(f"    no longer a place\n    - {old}\n    + {new}")


@functools.cache
def changes_of(module: str, rounds: int) -> list[dict]:
    """One change of each place of a module, in random order, and of so many places of each line."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    original = (ROOT / module).read_text()
    tree, annotations = get_ast(original), annotated(original)
    functions = [
        (node.name, node.lineno, node.end_lineno)
        for node in ast.walk(ast.parse(original))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    places = collections.defaultdict(list)
    for name in OPERATORS:
        operator = cosmic_ray.plugins.get_operator(name)()
        spots = [spot for node in ast_nodes(tree) for spot in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(spots):
            if not any(first <= start < last for first, last in annotations):
                places[start].append((operator, occurrence))
    changes, tried = [], collections.Counter()
    generator = random.Random(module)
    for (line, _), ways in sorted(places.items(), key=lambda _: generator.random()):
        way = generator.choice(ways)
        tried[line] += 1
        if tried[line] > rounds:
            continue
        code = mutate_code(original, *way)
        pairs = zip(original.splitlines(), code.splitlines(), strict=True)
        old, new = next((a.strip(), b.strip()) for a, b in pairs if a != b)
        inside = [name for name, first, last in functions if first <= line <= last]
        if "strict=False" not in new:
            one = {"module": module, "function": ".".join(inside), "line": line}
            changes.append(one | {"old": old, "new": new, "code": code})
    return changes


def annotated(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the type annotations are."""
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        for owner in ast.walk(ast.parse(code))
        for node in (getattr(owner, name, None) for name in ("annotation", "returns"))
        if isinstance(node, ast.expr)
    ]


def copied(copy: Path) -> Path:
    """A copy of the checkout."""
    shutil.rmtree(copy, ignore_errors=True)
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    return copy


class Watch:
    """A pytest plugin: orders the tests, limits and measures their time, and keeps the first failure."""

    def __init__(self, tests, expected=None, files=False, coverage=None):
        self.place = {test: index for index, test in enumerate(tests)}
        self.arguments = list({test.split("::")[0]: 0 for test in tests}) if files else tests
        self.expected, self.coverage = expected or {}, coverage
        self.seconds, self.failure = collections.Counter(), None

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.place.get(item.nodeid, len(self.place)))

    def pytest_runtest_logstart(self, nodeid):
        if self.coverage:
            self.coverage.switch_context(nodeid)
        else:
            # A wait for what never comes takes no time of the processor.
            signal.alarm(600)
            limit = time.process_time() + max(60, 5 * self.expected.get(nodeid, 60))
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), resource.RLIM_INFINITY))

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failure = self.failure or report.nodeid

    def pytest_collectreport(self, report):
        if report.failed:
            self.failure = self.failure or f"import of {report.nodeid}"


def in_child(copy: Path, action) -> str | None:
    """What `action` returns in a forked process, which works in the copy."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        log = os.open(copy / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            os.write(writing, json.dumps(action()).encode())
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else "a process that died or did not end"


def pytest_main(watch: Watch) -> str | None:
    """The first test that fails."""
    import pytest

    # Plain asserts, because modules that are imported already cannot be rewritten.
    options = ["-n", "0", "-x", "-q", "-m", "", "-p", "no:cacheprovider", "--assert=plain"]
    code = pytest.main([*options, *watch.arguments], plugins=[watch])
    return watch.failure or (f"exit code {code}" if code else None)


def coverage() -> dict:
    """For each module the tests of each line, and for each test its seconds."""
    file = WORK / "coverage.json"

    def run():
        from coverage import Coverage

        watched = Coverage(data_file=None, source=[f"ddln/{folder}" for folder in FOLDERS])
        watched.start()
        watch = Watch([f"tests/{folder}" for folder in FOLDERS], coverage=watched)
        failure = pytest_main(watch)
        watched.stop()
        data = watched.get_data()
        lines = {
            str(Path(name).relative_to(Path.cwd())): data.contexts_by_lineno(name)
            for name in data.measured_files()
        }
        file.write_text(json.dumps({"lines": lines, "seconds": watch.seconds}))
        return failure

    # Kept for further runs of the same code and tests.
    if not file.exists() and (failure := in_child(copied(WORK / "copy0"), run)):
        file.unlink(missing_ok=True)
        raise SystemExit(f"Without any change: {failure}")
    return json.loads(file.read_text())


def tests_of_line(change: dict, covered: dict) -> list[str]:
    """The tests that execute the statement of a change, the cheapest first."""
    lines = covered["lines"].get(change["module"], {})
    statements = [
        node
        for node in ast.walk(ast.parse((ROOT / change["module"]).read_text()))
        if isinstance(node, ast.stmt) and node.lineno <= change["line"] <= node.end_lineno
    ]
    inner = max(statements, key=lambda node: node.lineno)
    near = {
        t for n in range(inner.lineno, inner.end_lineno + 1) for t in lines.get(str(n), []) if t
    }
    tests = near or {test for tests in lines.values() for test in tests if test}
    return sorted(tests, key=covered["seconds"].__getitem__)


def affordable(first: list[str], seconds: dict[str, float]) -> list[str]:
    """As many of these tests as `SECONDS` allow, and those of their files that take next to no time:
    they may look at results that another test has left.
    """
    total = list(itertools.accumulate(seconds[test] for test in first))
    chosen = [test for test, t in zip(first, total, strict=True) if t < SECONDS] or first[:1]
    files = {test.split("::")[0] for test in chosen}
    quick = [t for t in seconds if seconds[t] < 0.2 and t.split("::")[0] in files]
    return list(dict.fromkeys([*chosen, *quick]))


if __name__ == "__main__":
    main()
