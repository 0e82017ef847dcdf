"""Properties of a map theta = h(w) that decide what every gradient flow of it does."""

from ddln.theory.maps._conservation_laws import ConservationLaws as ConservationLaws
from ddln.theory.maps._conservation_laws import count_conservation_laws as count_conservation_laws
from ddln.theory.maps._conserved_quadratics import ConservedQuadratics as ConservedQuadratics
from ddln.theory.maps._diagnose import Diagnosis as Diagnosis
from ddln.theory.maps._diagnose import diagnose as diagnose
from ddln.theory.maps._linear_networks import linear_network_path as linear_network_path
from ddln.theory.maps._linear_networks import mode_strength as mode_strength
from ddln.theory.maps._mirror_hypotheses import commutator as commutator
from ddln.theory.maps._mirror_hypotheses import integrability as integrability
from ddln.theory.maps._mirror_hypotheses import regularity as regularity
from ddln.theory.maps._path_products import path_products as path_products
