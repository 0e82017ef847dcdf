"""The statements of the two documents and of the literature, each with a program that measures it.

`import ddln` does not import this package.
"""

from ddln.claims._claim import Claim as Claim
from ddln.claims._claim import Settings as Settings
from ddln.claims._claim import claim as claim
from ddln.claims._evidence import Evidence as Evidence
from ddln.claims._evidence import Number as Number
from ddln.claims._evidence import checked as checked
from ddln.claims._evidence import compared as compared
from ddln.claims._evidence import measured as measured
from ddln.claims._registry import claims as claims
from ddln.claims._registry import literature_claims as literature_claims
from ddln.claims._run import Outcome as Outcome
from ddln.claims._run import run as run
