"""The bibliography, and the entries of it that a result calls for."""

import dataclasses
import re
from functools import cache
from importlib.resources import files
from typing import Any

# The literature behind the formulas of a class, by its name: names, so that nothing is imported for it.
SOURCES = {
    "AbstractReducedCoordinates": ("labarriere2024",),
    "Catapult": ("lewkowycz2020",),
    "ConservationLaws": ("marcotte2023",),
    "DeepDiagonal": ("labarriere2024",),
    "DeepMatrixFactorization": ("arora2018",),
    "Diagnosis": ("li2022",),
    "EntropyPotential": ("labarriere2024",),
    "FourVector": ("azulay2021",),
    "Gain": ("even2023",),
    "HypentropyPotential": ("woodworth2020",),
    "LassoPath": ("osborne2000", "efron2004"),
    "MarginStationarity": ("lyu2020", "ji2020"),
    "MatrixFactorization": ("gunasekar2017",),
    "MomentumRecord": ("papazov2024",),
    "PairRecord": ("papazov2024",),
    "Power": ("labarriere2024",),
    "PowerDifference": ("woodworth2020",),
    "Square": ("labarriere2024",),
    "StateEvolution": ("thrampoulidis2018",),
    "StochasticRecord": ("pesme2021",),
    "SymmetricFactorization": ("gunasekar2017",),
    "VanishingLimit": ("berthier2023", "pesme2023"),
    "WeightNorm": ("salimans2016",),
}
# The first author or all of up to three, and the year, as docstrings and laws name a source.
NAMED = re.compile(
    r"\b([A-ZÀ-Ž][\w-]+)(?:,? et al\.|(?:, [A-ZÀ-Ž][\w-]+)*,? and [\w-]+)?,? (\d{4})\b"
)


def cite(result: Any) -> str:
    """The BibTeX entries of the papers whose formulas a result uses.

    They follow from the result's class, from the parameterization, potential and records in it, and for a
    check of `ddln.theory` from the source that it names. The software itself is cited by `CITATION.cff`.

    Example:
        >>> ddln.cite(ddln.FourVector.zero(3)).splitlines()[0]
        '@inproceedings{azulay2021,'

    Args:
        result: a trajectory, a limit, a check, a parameterization, or any other result of `ddln`.

    Returns:
        Entries for a `.bib` file, in the order of the bibliography, with a blank line between them; empty if
        the result names no source.
    """
    found = set(_keys(result))
    return "\n\n".join(text for key, text in _entries().items() if key in found)


def _keys(value: Any):
    """The keys of an object of the package and of all that it holds."""
    if isinstance(value, tuple | list):
        for one in value:
            yield from _keys(one)
    if not type(value).__module__.startswith("ddln.") or isinstance(value, type):
        return
    for kind in type(value).__mro__:
        yield from SOURCES.get(kind.__name__, ())
    if isinstance(source := getattr(value, "source", None), str):
        named = set(NAMED.findall(source))
        yield from (key for key, entry in bibliography().items() if _author_year(entry) in named)
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _keys(getattr(value, field.name, None))


@cache
def _entries() -> dict[str, str]:
    """The text of each entry, by its key."""
    text = (files("ddln") / "references.bib").read_text(encoding="utf-8")
    return {block.split("{")[1].split(",")[0]: block for block in text.strip().split("\n\n")}


@cache
def bibliography() -> dict[str, dict[str, str]]:
    """The fields of each entry of the bibliography, by its key."""
    return {
        key: dict(re.findall(r"^  (\w+) = \{(.+)\},$", text, re.MULTILINE))
        for key, text in _entries().items()
    }


def short_name(key: str) -> str:
    """The first author, with a second one or "et al.", and the year."""
    entry = bibliography()[key]
    names = [author.split(",")[0] for author in entry["author"].split(" and ")]
    few = len(names) < 3 and names[-1] != "others"
    who = " and ".join(names) if few else f"{names[0]} et al."
    return f"{who} {entry['year']}"


def reference(key: str) -> str:
    """An entry in one line: authors, title, place, year."""
    entry = bibliography()[key]
    authors = [" ".join(reversed(name.split(", "))) for name in entry["author"].split(" and ")]
    place = entry.get("journal") or entry.get("booktitle") or entry.get("howpublished")
    place = place or f"arXiv:{entry['eprint']}"
    who = ", ".join(authors).replace(", others", " et al.")
    return f"{who}: {entry['title']}, {place} ({entry['year']})."


def _author_year(entry: dict[str, str]) -> tuple[str, str]:
    return entry["author"].split(",")[0], entry["year"]
