"""Statements about the rate at which the loss of a gradient flow decreases."""

from ddln.theory.rates._linear_rate import of_least_squares as of_least_squares
from ddln.theory.rates._monotone_loss import monotone_loss as monotone_loss
from ddln.theory.rates._pl_rate import pl_rate as pl_rate
from ddln.theory.rates._pl_rate import pl_rate_along_path as pl_rate_along_path
from ddln.theory.rates._pl_rate import pl_rate_zero_last as pl_rate_zero_last
from ddln.theory.rates._tangent_kernel_rate import tangent_kernel_rate as tangent_kernel_rate
