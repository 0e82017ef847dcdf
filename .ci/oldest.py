"""Prints pip constraints: every run-time dependency at the lower bound that pyproject.toml states.

Usage: python .ci/oldest.py > constraints.txt && pip install --constraint constraints.txt ".[test]"
"""

import re
import tomllib
from pathlib import Path

# What users install; the tools of the other extras only have to work in some version.
EXTRAS = ["cli", "data", "distributed"]
# Packages of a dependency that must be as old as it is.
COMPANIONS = ["pyparsing<3.3"]  # matplotlib < 3.10.8 calls names that pyparsing 3.3 warns about

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
requirements = list(project["dependencies"])
for extra in EXTRAS:
    requirements += project["optional-dependencies"][extra]

for requirement in requirements:
    match = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\d.]+)", requirement)
    if match is None:
        raise SystemExit(f"pyproject.toml: `{requirement}` must be written as `name>=version`")
    print(f"{match[1]}=={match[2]}")
print(*COMPANIONS, sep="\n")
