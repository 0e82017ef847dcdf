"""A claim: a statement of a document, and the function that measures whether it is true."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ddln._cite import bibliography
from ddln.claims._evidence import STATED, Evidence

Expectation = Literal[
    "holds", "holds under a condition", "erratum", "reproduced", "reproduced under a condition"
]

# The cases of a claim, by what is expected of it, with the verdict that each must have.
ALWAYS = {STATED: "holds"}
CONDITIONAL = {"with the condition": "holds", "without it": "violated"}
CASES = {
    "holds": ALWAYS,
    "holds under a condition": CONDITIONAL,
    "erratum": {"as printed": "violated", "corrected": "holds"},
    "reproduced": ALWAYS,
    "reproduced under a condition": CONDITIONAL,
}
# The two source documents; any other is a key of the bibliography.
DOCUMENTS = ("paper", "slides")
PACKAGE = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a check, all that it may depend on besides its own code.

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
    """A statement of one of the two documents or of the literature, as words, as a formula, and as a program.

    Texts are plain words with LaTeX between dollar signs.

    Args:
        id: its name, which begins with the document: "paper-theorem-1", "slides-momentum", or a key of the
            bibliography: "saxe2014-learning-time".
        number: the place in the document: "Theorem 1, Eq. (8)", "Diagonal Linear Networks".
        title: a few words.
        statement: the statement of the document, in words.
        formula: the same as a formula, LaTeX in display style, without delimiters.
        check: measures it on random problems.
        expected: "holds"; "holds under a condition" that the document does not state; or
            "erratum": the printed form fails, and its correction holds. For the literature "reproduced" and
            "reproduced under a condition" take the place of the first two.
        correction: the corrected form of an erratum.
        condition: the condition of a claim that needs one.
        equations: the numbers of the equations of the paper that it covers.
        fixture: data, start and settings of the literature's experiment, re-told.
        cost: what the numbers cost where they were published, if that was told.

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
    fixture: str = ""
    cost: str = ""

    def __post_init__(self):
        if self.document not in DOCUMENTS and self.document not in bibliography():
            raise ValueError(
                f"Argument `id` must begin with one of {DOCUMENTS} or with a key of the bibliography, "
                f"but it is {self.id!r}."
            )
        needs = {
            "correction": (self.expected == "erratum", self.correction),
            "condition": (self.expected.endswith("under a condition"), self.condition),
            "fixture": (self.document not in DOCUMENTS, self.fixture),
        }
        for name, (needed, text) in needs.items():
            if needed != bool(text):
                raise ValueError(
                    f"Argument `{name}` must {'be' if needed else 'not be'} given for a claim of "
                    f"{self.document} with `expected={self.expected!r}`, but that of {self.id} is {text!r}."
                )

    @property
    def document(self) -> str:
        """The document that the claim is from: "paper", "slides", or a key of the bibliography."""
        return self.id.split("-")[0]

    @property
    def cases(self) -> dict[str, str]:
        """The cases that the evidence must have numbers for, with the verdict expected of each."""
        return CASES[self.expected]

    @property
    def place(self) -> str:
        """The place of its code: "ddln/claims/paper/_layers.py: conservation, line 20"."""
        file, root = Path(inspect.getfile(inspect.unwrap(self.check))), PACKAGE.parent
        where = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
        return f"{where}: {self.check.__name__}, line {inspect.getsourcelines(self.check)[1]}"

    @property
    def code(self) -> str:
        """The source of its check, without the texts of the claim in its docstring."""
        source = inspect.getsource(self.check)
        start = re.search(r"^def ", source, re.MULTILINE)
        source = source if start is None else source[start.start() :]
        texts, rest = _texts(self.check)
        if not texts:
            return source
        shown = textwrap.indent("\n\n".join(rest), "    ").strip()
        shown = f'"""{shown}\n    """' if "\n" in shown else f'"""{shown}"""'
        # A function: in a replacement text backslashes would be escapes.
        return re.sub(r'r?("""|\'\'\').*?\1', lambda _: shown, source, count=1, flags=re.DOTALL)


def claim(
    *, id: str, equations: tuple[int, ...] = ()
) -> Callable[[Callable[[Settings], Evidence]], Claim]:
    """Make a `Claim` of the function below, whose docstring is the text of the claim.

    Its first line is the place, a colon, the title and a full stop. Then come the statement; the
    formula, indented; `Correction: ...` of an erratum, or `Condition: ...` of a claim that holds
    under a condition; `Fixture: ...` of a claim of the literature, and `Cost: ...` if that was published;
    and what is measured, for the reader of the code.

    Example:
        >>> @claim(id="paper-equation-8", equations=(8,))
        ... def rate(settings):
        ...     r'''Theorem 1, Eq. (8): The loss decreases like 1/t.
        ...
        ...     For a convex loss, the gap is at most the divergence at the start over the time.
        ...
        ...         t (L(\\theta(t)) - L^*) \\leq D_Q(\\theta^*, \\theta(0))
        ...
        ...     Condition: the loss has a minimizer.
        ...
        ...     Labarrière et al. 2024, equation 8, on random problems.
        ...     '''
        ...     return Evidence((measured("largest left side / right side", 0.3, "<=", 1),))

    Args:
        id: as in `Claim`.
        equations: as in `Claim`.

    Raises:
        ValueError: if the function has no docstring of this form.
    """

    def wrap(check: Callable[[Settings], Evidence]) -> Claim:
        texts, _ = _texts(check)
        if not texts:
            raise ValueError(
                f"The docstring of `{check.__name__}` must be that of a claim, but it has no title, "
                "no statement or no formula. `ddln.claims.claim` shows the form."
            )
        expected = _expected(texts, literature=id.split("-")[0] not in DOCUMENTS)
        return Claim(id=id, check=check, equations=equations, expected=expected, **texts)

    return wrap


def _texts(check: Callable[[Settings], Evidence]) -> tuple[dict[str, str], list[str]]:
    """The fields of a claim in the docstring of its check, and the paragraphs on the measurement.

    No fields if the docstring is not that of a claim.
    """
    head, *paragraphs = inspect.cleandoc(check.__doc__ or "").split("\n\n")
    number, _, title = _one_line(head).removesuffix(".").partition(": ")
    formula = next((i for i, part in enumerate(paragraphs) if part.startswith(" ")), 0)
    if not title or not formula:
        return {}, [head, *paragraphs]
    texts = {
        "number": number,
        "title": title,
        "statement": _one_line(" ".join(paragraphs[:formula])),
        "formula": _one_line(paragraphs[formula]),
    }
    measurement = []
    for paragraph in paragraphs[formula + 1 :]:
        label, _, text = paragraph.partition(": ")
        if label in ("Correction", "Condition", "Fixture", "Cost"):
            texts[label.lower()] = _one_line(text)
        else:
            measurement.append(paragraph)
    return texts, measurement


def _expected(texts: dict[str, str], literature: bool) -> Expectation:
    if "correction" in texts:
        return "erratum"
    if literature:
        return "reproduced under a condition" if "condition" in texts else "reproduced"
    return "holds under a condition" if "condition" in texts else "holds"


def _one_line(text: str) -> str:
    return " ".join(text.split())
