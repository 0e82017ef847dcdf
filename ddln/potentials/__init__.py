"""Mirror geometry of gradient flows: potentials Q, their conjugates, and curves (theta, xi)."""

from ddln.potentials._base import AbstractCurve as AbstractCurve
from ddln.potentials._base import AbstractPotential as AbstractPotential
from ddln.potentials._deep_diagonal import DeepDiagonalPotential as DeepDiagonalPotential
from ddln.potentials._dual_coordinate import dual as dual
from ddln.potentials._dual_coordinate import dual_tail as dual_tail
from ddln.potentials._dual_coordinate import primal as primal
from ddln.potentials._dual_coordinate import primal_from_tail as primal_from_tail
from ddln.potentials._dual_coordinate import smallest_layer as smallest_layer
from ddln.potentials._entropies import EntropyPotential as EntropyPotential
from ddln.potentials._entropies import HypentropyPotential as HypentropyPotential
from ddln.potentials._mirror_hypotheses import bracket_residual as bracket_residual
from ddln.potentials._mirror_hypotheses import random_directions as random_directions
from ddln.potentials._numerical import NumericalPotential as NumericalPotential
from ddln.potentials._potential import MirrorGeometry as MirrorGeometry
from ddln.potentials._potential import mirror_geometry as mirror_geometry
from ddln.potentials._potential import potential as potential
from ddln.potentials._powers import PowerDifferencePotential as PowerDifferencePotential
from ddln.potentials._powers import PowerPotential as PowerPotential
from ddln.potentials._quadratic import QuadraticPotential as QuadraticPotential
from ddln.potentials._separable import AbstractSeparablePotential as AbstractSeparablePotential
from ddln.potentials._sum import SumCurve as SumCurve
from ddln.potentials._sum import SumPotential as SumPotential
