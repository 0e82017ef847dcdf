"""Moroshko et al. 2020: the training accuracy that a limit of the margin takes."""

import numpy as np

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.claims.literature._gunasekar2018 import two_layers


@claim(id="moroshko2020-accuracy")
def accuracy_needed(settings: Settings) -> Evidence:
    r"""Abstract of a talk: Limits that need ridiculous accuracies.

    Some limits of the implicit bias of deep linear classification are seen only at training losses well
    beyond $10^{-100}$.

        \mathcal{L} \ll 10^{-100}

    Fixture: as for the margin of two layers: six samples of eight coordinates, scale 0.5.

    As summarized: the digits of the loss at which the margin has reached 97 percent of the largest one.
    """
    ratio, accuracy = two_layers()
    needed = np.interp(0.97, np.maximum.accumulate(ratio), accuracy) / np.log(10)
    return Evidence((measured(r"$\log_{10}(1/L)$ at 97 percent of the margin", needed, ">=", 100),))


CLAIMS = (accuracy_needed,)
