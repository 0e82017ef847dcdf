"""The claims of the literature, a module for each paper."""

from ddln.claims._claim import Claim

CLAIMS: tuple[Claim, ...] = ()
