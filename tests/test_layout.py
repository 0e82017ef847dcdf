"""The layout of the package: the order of its folders, their private modules, and how docstrings open."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ddln"
FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
TREES = {name: ast.parse((PACKAGE / name).read_text()) for name in FILES}


def ranks(text):
    """The number of each folder and top-level module in the list of CONTRIBUTING.md."""
    section = text.split("A folder imports only from folders above it")[1].split("\n\n")[1]
    rows = [re.findall(r"`(\w+)`", line) for line in section.splitlines()]
    return {name: number for number, row in enumerate(rows) for name in row}


RANKS = ranks((ROOT / "CONTRIBUTING.md").read_text())


def folder(name):
    """The folder of a file of the package, or the name of a top-level module."""
    return Path(name).parts[0].removesuffix(".py")


def imported(tree):
    """The modules of the package that a module imports, relative to the package: "losses._base"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # In `from ddln import losses` the folder is the name.
            inside = node.module == "ddln"
            names = [f"ddln.{one.name}" for one in node.names] if inside else [str(node.module)]
        else:
            continue
        yield from (name.partition(".")[2] for name in names if name.split(".")[0] == "ddln")


def upward(name, tree):
    """The imports of a file from a folder that is not above its own; all of `ddln` is in no folder."""
    own = folder(name)
    heads = {module.split(".")[0] for module in imported(tree)} - {own}
    return {head for head in heads if RANKS.get(head, len(RANKS)) > RANKS[own]}


def private(name, tree):
    """The private modules of other folders that a file imports."""
    split = [module.split(".") for module in imported(tree)]
    return {
        ".".join(parts[:2])
        for parts in split
        if parts[0] != folder(name) and len(parts) > 1 and parts[1].startswith("_")
    }


# By importing folder. These lists may only shrink.
PRIVATE = {
    "flows": {
        "parameterizations._canonical",
        "potentials._domain",
        "potentials._separable",
        "solvers._rosenbrock",
    },
    "limits": {
        "flows._arguments",
        "flows._state",
        "potentials._flow_map",
        "potentials._smallest_layer",
        "solvers._inverse_factor",
        "solvers._product",
    },
    "sweeps": {
        "flows._adjoint",
        "flows._arguments",
        "flows._queue",
        "flows._recorded",
        "flows._segments",
        "flows._setup",
    },
    "theory": {
        "flows._momentum_space",
        "flows._state",
        "flows._stochastic_flow",
        "potentials._mirror_hypotheses",
        "potentials._separable",
    },
}

QUESTION = re.compile(r"(What|How|Where|Which|Whether|When)\b")
# Files with a docstring that opens with a question word. This list may only shrink.
QUESTIONS = {
    "claims/_claim.py",
    "claims/_evidence.py",
    "claims/_problems.py",
    "claims/_run.py",
    "claims/paper/_rates.py",
    "claims/paper/_two_layers.py",
    "claims/slides/_flows.py",
    "claims/slides/_scale.py",
    "cli/_flows.py",
    "cli/_places.py",
    "cli/_report.py",
    "cli/_sweep_command.py",
    "cli/_tables.py",
    "flows/_adjoint.py",
    "flows/_arguments.py",
    "flows/_damping.py",
    "flows/_factors.py",
    "flows/_iterate.py",
    "flows/_minibatches.py",
    "flows/_mirror_flow.py",
    "flows/_momentum_scaling.py",
    "flows/_momentum_space.py",
    "flows/_noisy_space.py",
    "flows/_queue.py",
    "flows/_recorded.py",
    "flows/_saving_solver.py",
    "flows/_segments.py",
    "flows/_sensitivity.py",
    "flows/_setup.py",
    "flows/_step_arguments.py",
    "flows/_step_control.py",
    "flows/_stochastic_flow.py",
    "flows/_trajectory.py",
    "limits/__init__.py",
    "limits/_curve.py",
    "limits/_excess_law.py",
    "limits/_limit.py",
    "limits/_margins.py",
    "limits/_measures.py",
    "limits/_path.py",
    "limits/_signed_least_squares.py",
    "limits/_weights.py",
    "plots/_data.py",
    "potentials/_base.py",
    "potentials/_dual_coordinate.py",
    "potentials/_mirror_hypotheses.py",
    "potentials/_numerical.py",
    "potentials/_separable.py",
    "potentials/_smallest_layer.py",
    "problems/_problem.py",
    "problems/_table.py",
    "sweeps/_array_spec.py",
    "sweeps/_engine.py",
    "sweeps/_fingerprint.py",
    "sweeps/_flow_lanes.py",
    "sweeps/_grid.py",
    "sweeps/_header.py",
    "sweeps/_initializations.py",
    "sweeps/_lanes.py",
    "sweeps/_lock.py",
    "sweeps/_plan.py",
    "sweeps/_result.py",
    "sweeps/_sinks.py",
    "sweeps/_store.py",
    "sweeps/_traced.py",
    "sweeps/_variables.py",
    "theory/_catapult.py",
    "theory/_check.py",
    "theory/_commutator.py",
    "theory/_conservation_laws.py",
    "theory/_deep_diagonal.py",
    "theory/_diagnose.py",
    "theory/_gain.py",
    "theory/_gap_recursion.py",
    "theory/_integrability.py",
    "theory/_linear_rate.py",
    "theory/_mirror.py",
    "theory/_momentum.py",
    "theory/_momentum_gap.py",
    "theory/_momentum_scale.py",
    "theory/_orbit.py",
    "theory/_points.py",
    "theory/_regularity.py",
    "theory/_require_map.py",
    "theory/_sufficient_inertia.py",
}


def test_every_folder_has_a_place_in_the_order():
    assert {folder(name) for name in FILES} == {*RANKS, "__init__"}


@pytest.mark.parametrize("name", sorted(set(RANKS)))
def test_a_folder_imports_only_from_folders_above(name):
    found = {file: upward(file, TREES[file]) for file in FILES if folder(file) == name}
    assert {file: heads for file, heads in found.items() if heads} == {}


def test_no_folder_imports_a_private_module_of_another():
    found = {}
    for name in FILES:
        if modules := private(name, TREES[name]):
            found.setdefault(folder(name), set()).update(modules)
    assert found == PRIVATE


def questions(tree):
    """The docstrings that open with a question word."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in texts if text and QUESTION.match(text)]


def test_docstrings_open_with_what_they_describe():
    found = {name: questions(tree) for name, tree in TREES.items()}
    assert {name: texts for name, texts in found.items() if texts and name not in QUESTIONS} == {}
    assert {name for name in QUESTIONS if not found.get(name)} == set()


def test_a_wrong_import_or_docstring_is_found():
    source = '"""Where flows are."""\nfrom ddln.flows._queue import most\nfrom ddln import cli\nimport ddln'
    tree = ast.parse(source)
    assert upward("losses/_new.py", tree) == {"flows", "cli", ""}
    assert upward("flows/_new.py", tree) == {"cli", ""}
    assert private("losses/_new.py", tree) == {"flows._queue"}
    assert private("flows/_new.py", tree) == set()
    assert questions(tree) == ["Where flows are."]
    assert questions(ast.parse('"""Whereas this is none."""')) == []
