"""L(theta): losses of the effective parameter."""

from ddln.losses._base import AbstractLoss as AbstractLoss
from ddln.losses._base import AbstractPredictionLoss as AbstractPredictionLoss
from ddln.losses._generalized_linear import GeneralizedLinear as GeneralizedLinear
from ddln.losses._gradient import loss_gradient as loss_gradient
from ddln.losses._least_squares import LeastSquares as LeastSquares
from ddln.losses._logistic import Logistic as Logistic
from ddln.losses._softmax import Softmax as Softmax
from ddln.losses._weighted import Weighted as Weighted
