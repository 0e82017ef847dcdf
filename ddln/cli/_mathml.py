"""LaTeX as MathML, and texts with LaTeX between dollar signs as HTML."""

import html
import re
import xml.etree.ElementTree as ET

from latex2mathml.converter import convert

NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
# Signs that the converter takes for letters: big operators with limits below and above, and arrows.
BIG = {"\u2a00": {"largeop": "true", "movablelimits": "true"}}
ARROWS = {"\u27f9": {}, "\u27fa": {}}
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
        base = element[0] if len(element) else None
        if element.tag in LIMITS and base is not None and base.text in BIG and display == "block":
            element.tag = LIMITS[element.tag]
        sign = {**BIG, **ARROWS}.get(element.text or "")
        if sign is not None and element.tag == "mi":
            element.tag = "mo"
            element.attrib.update(sign)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _operator(match: re.Match[str]) -> str:
    return r"\text{" + match[1].replace(r"\,", " ") + r"}\,"


def with_formulas(text: str) -> str:
    """Words with LaTeX between dollar signs, as HTML."""
    words = text.split("$")
    return "".join(
        mathml(part) if number % 2 else html.escape(part) for number, part in enumerate(words)
    )
