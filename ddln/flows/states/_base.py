"""The unknowns of a flow, from which theta is rebuilt."""

import abc

import equinox as eqx

from ddln._types import Array, PyTree, Theta
from ddln.parameterizations import AbstractParameterization


class AbstractStates(eqx.Module):
    """Unknowns from which a parameterization can be rebuilt."""

    @abc.abstractmethod
    def start(self) -> PyTree[Array]:
        """The unknowns at time 0."""

    @abc.abstractmethod
    def rebuild(self, state: PyTree[Array]) -> AbstractParameterization:
        """The parameterization in that state."""

    def of_state(self, state: PyTree[Array]) -> AbstractParameterization:
        """The parameterization in a state of the flow, whose first entry has the unknowns."""
        return self.rebuild(state[0])

    def effective(self, state: PyTree[Array]) -> Theta:
        """theta in that state."""
        return self.rebuild(state).effective()
