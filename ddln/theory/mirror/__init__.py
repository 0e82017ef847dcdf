"""Statements about gradient flows that are mirror flows."""

from ddln.theory.mirror._bregman_rate import bregman_decrease as bregman_decrease
from ddln.theory.mirror._bregman_rate import bregman_rate as bregman_rate
from ddln.theory.mirror._decayed_identity import (
    decayed_mirror_identity as decayed_mirror_identity,
)
from ddln.theory.mirror._mirror_identity import closed_potential as closed_potential
from ddln.theory.mirror._mirror_identity import mirror_identity as mirror_identity
from ddln.theory.mirror._mirror_identity import mirror_optimality as mirror_optimality
