"""Data: seeded generators, an embedded real data set, files."""

from ddln.problems._benchmark import case_h as case_h
from ddln.problems._diabetes import diabetes as diabetes
from ddln.problems._figures import figure_3 as figure_3
from ddln.problems._figures import figure_4 as figure_4
from ddln.problems._load import load as load
from ddln.problems._problem import Problem as Problem
from ddln.problems._sparse import sparse_classification as sparse_classification
from ddln.problems._sparse import sparse_regression as sparse_regression
from ddln.problems._standardize import Standardization as Standardization
