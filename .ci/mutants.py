"""Tests the tests: changes the code in small ways, one at a time, and says which changes no test notices.

    pip install cosmic-ray
    python .ci/mutants.py --each 3 --out mutants.json           # 3 changes of each module
    python .ci/mutants.py ddln/theory/_gain.py --each 100       # many of one module

Works in a copy of the checkout. A module is tested by the test files that name something that it, or
a module built on it, defines. `mutants.json` is extended by each run.
"""

import argparse
import ast
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

FOLDERS = ("theory", "potentials")
TESTS = (*FOLDERS, "flows")
BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd")
COMPARISONS = ("LtE_Gt", "Lt_GtE", "GtE_Lt", "Gt_LtE", "Lt_LtE", "Gt_GtE", "Eq_NotEq", "NotEq_Eq")
OPERATORS = [
    *(f"core/ReplaceBinaryOperator_{name}" for name in BINARY),
    *(f"core/ReplaceComparisonOperator_{name}" for name in COMPARISONS),
    *(f"core/ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Invert", "Not")),
    *(f"core/Replace{name}" for name in ("AndWithOr", "OrWithAnd")),
    *(f"core/Replace{name}" for name in ("TrueWithFalse", "FalseWithTrue")),
    "core/NumberReplacer",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", type=Path)
    parser.add_argument("--each", type=int, default=3, help="changes of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one")
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    options = parser.parse_args()
    root = Path(__file__).parents[1]
    known = [path for folder in FOLDERS for path in sorted((root / "ddln" / folder).glob("_*.py"))]
    modules = [path.resolve() for path in options.modules] or known
    found = json.loads(options.out.read_text()) if options.out.exists() else []
    told = {(one["module"], one["diff"]) for one in found}
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        files = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, text=True).split("\0")
        for name in filter(None, files):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy / name)
        for path in modules:
            module = path.relative_to(root)
            tests = tests_of(root, module, known)
            for diff, code in sample(root / module, options.each, options.seed):
                if (str(module), diff) in told:
                    continue
                (copy / module).write_text(code)
                killer = first_failure(copy, tests, options.timeout)
                shutil.copy(root / module, copy / module)
                found.append({"module": str(module), "diff": diff, "noticed by": killer})
                options.out.write_text(json.dumps(found, indent=1) + "\n")
                print(f"{module}, noticed by {killer}\n{diff}", flush=True)
    survivors = sum(one["noticed by"] is None for one in found)
    print(f"{survivors} of {len(found)} changes were not noticed.")


def sample(path: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """Some changes of a module, as differences and as whole texts."""
    original, tree = path.read_text(), get_ast_from_path(path)
    annotations = annotated(original)
    places = []
    for name in OPERATORS:
        operator = cosmic_ray.plugins.get_operator(name)()
        spots = [spot for node in ast_nodes(tree) for spot in operator.mutation_positions(node)]
        places += [
            (operator, occurrence)
            for occurrence, (start, _) in enumerate(spots)
            if not any(first <= start < last for first, last in annotations)
        ]
    generator = random.Random(f"{seed} {path.name}")
    changes = []
    for operator, occurrence in generator.sample(places, min(count, len(places))):
        code = mutate_code(original, operator, occurrence)
        lines = difflib.unified_diff(original.split("\n"), code.split("\n"), lineterm="", n=0)
        changes.append(("\n".join(list(lines)[2:]), code))
    return changes


def annotated(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the type annotations are."""
    spans = []
    for node in ast.walk(ast.parse(code)):
        for annotation in (getattr(node, name, None) for name in ("annotation", "returns")):
            if isinstance(annotation, ast.AST):
                spans.append(
                    (
                        (annotation.lineno, annotation.col_offset),
                        (annotation.end_lineno, annotation.end_col_offset),
                    )
                )
    return spans


def tests_of(root: Path, module: Path, known: list[Path]) -> list[str]:
    """The test files that name something of a module or of those that import it."""
    users, grown = set(), {module}
    while grown - users:
        users |= grown
        imports = [str(user.with_suffix("")).replace("/", ".") for user in users]
        pattern = re.compile(rf"^from ({'|'.join(map(re.escape, imports))}) import", re.MULTILINE)
        grown = users | {p.relative_to(root) for p in known if pattern.search(p.read_text())}
    names = [
        node.name
        for user in users
        for node in ast.parse((root / user).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    word = re.compile(rf"\b({'|'.join(names)})\b")
    files = [p for folder in TESTS for p in (root / "tests" / folder).glob("test_*.py")]
    counts = {p: len(word.findall(p.read_text())) for p in files}
    named = sorted((p for p in files if counts[p]), key=lambda p: -counts[p])
    return [str(p.relative_to(root)) for p in named]


def first_failure(copy: Path, tests: list[str], timeout: float) -> str | None:
    """The test that fails in the copy, or None."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:.0f} s"
    if done.returncode == 0:
        return None
    failure = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return failure[1] if failure else done.stdout[-500:]


if __name__ == "__main__":
    main()
