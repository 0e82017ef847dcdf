"""LaTeX as MathML, and texts with LaTeX between dollar signs as HTML."""

import html
import re
import xml.etree.ElementTree as ET

from latex2mathml.converter import convert

NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
# Signs that the converter, or MathML by default, takes for something else: the tag and the attributes
# that they should have. A big operator has limits below and above, bars are fences without space.
BIG = "\u2a00"
SIGNS: dict[str, tuple[str, dict[str, str]]] = {
    BIG: ("mo", {"largeop": "true", "movablelimits": "true"}),
    "\u27f9": ("mo", {}),
    "\u27fa": ("mo", {}),
    "\u221e": ("mi", {}),
    "|": ("mo", {"lspace": "0", "rspace": "0"}),
    ":": ("mo", {"lspace": "0.28em", "rspace": "0.28em"}),
    **{letter: ("mi", {"mathvariant": "normal"}) for letter in "ΓΔΘΛΞΠΣΦΨΩ"},
}
LIMITS = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}


def mathml(latex: str, display: str = "inline") -> str:
    """A formula as a MathML element, with its LaTeX as alternative text.

    Args:
        latex: the formula, without delimiters.
        display: "inline" or "block".
    """
    # Names of operators are upright words, and sizes are read before plain delimiters only.
    text = re.sub(r"\\operatorname\*?\{([^}]*)\}", _operator, latex)
    text = re.sub(r"\\[bB]ig+[lr]?\s*(\\(?:langle|rangle|\{|\}))", r"\1", text)
    root = ET.fromstring(convert(text, display=display).replace(NAMESPACE, ""))
    root.set("alttext", latex)
    for element in root.iter():
        base = element[0].text if len(element) else None
        if element.tag in LIMITS and base == BIG and display == "block":
            element.tag = LIMITS[element.tag]
        if element.tag in ("mi", "mo") and element.text in SIGNS:
            element.tag, attributes = SIGNS[element.text]
            element.attrib.update(attributes)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _operator(match: re.Match[str]) -> str:
    return r"\text{" + match[1].replace(r"\,", " ") + r"}\,"


def with_formulas(text: str) -> str:
    """Words with LaTeX between dollar signs, as HTML."""
    words = text.split("$")
    return "".join(
        mathml(part) if number % 2 else html.escape(part) for number, part in enumerate(words)
    )
