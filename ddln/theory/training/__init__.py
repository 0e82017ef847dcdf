"""Statements about training beyond the gradient flow: finite steps, noise and momentum."""

from ddln.theory.training._effective_start import effective_start as effective_start
from ddln.theory.training._gain import Gain as Gain
from ddln.theory.training._gain import gain as gain
from ddln.theory.training._gain import gain_identity as gain_identity
from ddln.theory.training._gain import gain_optimality as gain_optimality
from ddln.theory.training._gap_recursion import gap_recursion as gap_recursion
from ddln.theory.training._momentum import momentum_energy as momentum_energy
from ddln.theory.training._momentum import momentum_gap as momentum_gap
from ddln.theory.training._momentum_pair import momentum_scale as momentum_scale
from ddln.theory.training._momentum_pair import momentum_shrinkage as momentum_shrinkage
from ddln.theory.training._momentum_pair import sufficient_inertia as sufficient_inertia
from ddln.theory.training._sam import sam_gain as sam_gain
from ddln.theory.training._sharpness import Catapult as Catapult
from ddln.theory.training._sharpness import catapult as catapult
from ddln.theory.training._sharpness import sharpness as sharpness
from ddln.theory.training._steepest import steepest_gap as steepest_gap
from ddln.theory.training._stochastic_gap import stochastic_gap as stochastic_gap
