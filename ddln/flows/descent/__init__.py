"""Training in discrete time."""

from ddln.flows.descent._descend import DescentDynamics as DescentDynamics
from ddln.flows.descent._descend import descend as descend
from ddln.flows.descent._factors import TwoLayerFactors as TwoLayerFactors
from ddln.flows.descent._mirror_descent import mirror_descent as mirror_descent
