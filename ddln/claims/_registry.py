"""All claims."""

from ddln.claims import literature, paper, slides
from ddln.claims._claim import Claim


def claims() -> tuple[Claim, ...]:
    """The claims of the paper, then those of the slides, each in the order of its document."""
    return (*paper.CLAIMS, *slides.CLAIMS)


def literature_claims() -> tuple[Claim, ...]:
    """The published numbers and laws of the literature, paper by paper, by year."""
    return literature.CLAIMS
