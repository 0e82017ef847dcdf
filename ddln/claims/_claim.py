"""What a claim is: a statement of a document, and the function that measures whether it is true."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ddln.claims._evidence import STATED, Evidence

Expectation = Literal["holds", "holds under a condition", "erratum"]

# The cases of a claim, by what is expected of it, with the verdict that each must have.
CASES = {
    "holds": {STATED: "holds"},
    "holds under a condition": {"with the condition": "holds", "without it": "violated"},
    "erratum": {"as printed": "violated", "corrected": "holds"},
}
DOCUMENTS = ("paper", "slides")
PACKAGE = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a check of a claim may depend on besides its own code.

    Args:
        seed: of all random problems; another seed gives fresh ones.
        problems: how many random problems each statement is measured on, at least 1.
    """

    seed: int = 0
    problems: int = 32

    def __post_init__(self):
        if self.problems < 1:
            raise ValueError(f"Argument `problems` must be at least 1, but it is {self.problems}.")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of one of the two documents, as words, as a formula, and as a program.

    Texts are plain words with LaTeX between dollar signs.

    Args:
        id: its name, which begins with the document: "paper-theorem-1", "slides-momentum".
        number: the place in the document: "Theorem 1, Eq. (8)", "Diagonal Linear Networks".
        title: a few words.
        statement: what the document says, in words.
        formula: the same as a formula, LaTeX in display style, without delimiters.
        check: measures it on random problems.
        expected: "holds"; "holds under a condition", one that the document does not state; or
            "erratum": the printed form fails, and its correction holds.
        correction: the corrected form of an erratum.
        condition: the condition of a claim that needs one.
        equations: the numbers of the equations of the paper that it covers.

    Raises:
        ValueError: if the fields do not fit each other.
    """

    id: str
    number: str
    title: str
    statement: str
    formula: str
    check: Callable[[Settings], Evidence]
    expected: Expectation = "holds"
    correction: str = ""
    condition: str = ""
    equations: tuple[int, ...] = ()

    def __post_init__(self):
        if self.document not in DOCUMENTS:
            raise ValueError(
                f"Argument `id` must begin with one of {DOCUMENTS}, but it is {self.id!r}."
            )
        needs = {
            "correction": (self.expected == "erratum", self.correction),
            "condition": (self.expected == "holds under a condition", self.condition),
        }
        for name, (needed, text) in needs.items():
            if needed != bool(text):
                raise ValueError(
                    f"Argument `{name}` must {'be' if needed else 'not be'} given for a claim with "
                    f"`expected={self.expected!r}`, but that of {self.id} is {text!r}."
                )

    @property
    def document(self) -> str:
        """The document that the claim is from: "paper" or "slides"."""
        return self.id.split("-")[0]

    @property
    def cases(self) -> dict[str, str]:
        """The cases that the evidence must have numbers for, with the verdict expected of each."""
        return CASES[self.expected]

    @property
    def place(self) -> str:
        """Where its code is: "ddln/claims/paper/_layers.py: conservation, line 20"."""
        file, root = Path(inspect.getfile(inspect.unwrap(self.check))), PACKAGE.parent
        where = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
        return f"{where}: {self.check.__name__}, line {inspect.getsourcelines(self.check)[1]}"

    @property
    def code(self) -> str:
        """The source of its check, without the texts above it."""
        source = inspect.getsource(self.check)
        start = re.search(r"^def ", source, re.MULTILINE)
        return source if start is None else source[start.start() :]


def claim(
    *,
    id: str,
    number: str,
    title: str,
    statement: str,
    formula: str,
    expected: Expectation = "holds",
    correction: str = "",
    condition: str = "",
    equations: tuple[int, ...] = (),
) -> Callable[[Callable[[Settings], Evidence]], Claim]:
    """Makes a `Claim` of the function below it.

    Args:
        id: as in `Claim`.
        number: as in `Claim`.
        title: as in `Claim`.
        statement: as in `Claim`.
        formula: as in `Claim`.
        expected: as in `Claim`.
        correction: as in `Claim`.
        condition: as in `Claim`.
        equations: as in `Claim`.
    """

    def wrap(check: Callable[[Settings], Evidence]) -> Claim:
        return Claim(
            id, number, title, statement, formula, check, expected, correction, condition, equations
        )

    return wrap
