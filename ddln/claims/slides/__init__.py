"""The claims of the slides (Vega et al. 2025), in their order."""

CLAIMS = ()
