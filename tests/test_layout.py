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


# A result draws itself: `ddln.plots` is imported when its `plot()` is called.
DISPLAY = {"_plot.py": {"plots"}}

QUESTION = re.compile(r"(What|How|Where|Which|Whether|When)\b")


def test_every_folder_has_a_place_in_the_order():
    assert {folder(name) for name in FILES} == {*RANKS, "__init__"}


@pytest.mark.parametrize("name", sorted(set(RANKS)))
def test_a_folder_imports_only_from_folders_above(name):
    found = {file: upward(file, TREES[file]) for file in FILES if folder(file) == name}
    expected = {file: heads for file, heads in DISPLAY.items() if folder(file) == name}
    assert {file: heads for file, heads in found.items() if heads} == expected
    for file in expected:
        # Inside of a function: the module itself is imported without it.
        rest = [node for node in TREES[file].body if not isinstance(node, ast.FunctionDef)]
        assert upward(file, ast.Module(rest, [])) == set()


def test_no_folder_imports_a_private_module_of_another():
    found = {}
    for name in FILES:
        if modules := private(name, TREES[name]):
            found.setdefault(folder(name), set()).update(modules)
    assert found == {}


def questions(tree):
    """The docstrings that open with a question word."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in texts if text and QUESTION.match(text)]


def test_docstrings_open_with_what_they_describe():
    found = {name: questions(tree) for name, tree in TREES.items()}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_a_wrong_import_or_docstring_is_found():
    source = '"""Where flows are."""\nfrom ddln.flows._queue import most\nfrom ddln import cli\nimport ddln'
    tree = ast.parse(source)
    assert upward("losses/_new.py", tree) == {"flows", "cli", ""}
    assert upward("flows/_new.py", tree) == {"cli", ""}
    assert private("losses/_new.py", tree) == {"flows._queue"}
    assert private("flows/_new.py", tree) == set()
    assert questions(tree) == ["Where flows are."]
    assert questions(ast.parse('"""Whereas this is none."""')) == []
