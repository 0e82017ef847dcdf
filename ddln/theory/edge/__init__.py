"""Curvature of the loss in the weights, and descent at and beyond the edge of stability."""

from ddln.theory.edge._central_average import central_average as central_average
from ddln.theory.edge._inertia import HessianInertia as HessianInertia
from ddln.theory.edge._inertia import hessian_inertia as hessian_inertia
from ddln.theory.edge._modified_gradient import modified_gradient as modified_gradient
from ddln.theory.edge._period_two import PeriodTwoOrbit as PeriodTwoOrbit
from ddln.theory.edge._period_two import period_two_orbit as period_two_orbit
from ddln.theory.edge._spectrum import HessianSpectrum as HessianSpectrum
from ddln.theory.edge._spectrum import hessian_spectrum as hessian_spectrum
from ddln.theory.edge._step_sizes import period_doubling as period_doubling
from ddln.theory.edge._step_sizes import stable_step_size as stable_step_size
