"""Lyu and Li 2020: the margin of homogeneous networks."""

import numpy as np

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, measured
from ddln.claims.literature._gunasekar2018 import path


@claim(id="lyu2020-stationary")
def stationary(settings: Settings) -> Evidence:
    r"""As summarized: The weights tend to a KKT point.

    On separable data the direction of the weights of a homogeneous network tends to a KKT point of the
    problem of the largest margin: weights and negative gradient align.

        1 - \cos\bigl(w, -\nabla_w \mathcal{L}(w)\bigr) \to 0

    Fixture: three layers of scale 0.5, six standard normal samples of eight coordinates with labels 1.

    The misalignment by NumPy along the flow of a function of the loss, and the normalized margin, which
    does not decrease once all samples are classified.
    """
    X, layers, theta, accuracy = path(3, 0.5, 1e4)
    margins = theta @ X.T
    pull = np.exp(margins.min(1, keepdims=True) - margins) @ X
    others = np.stack([np.delete(layers, j, axis=1).prod(1) for j in range(3)], axis=1)
    force = others * pull[:, None]
    inner = np.sum(layers * force, (1, 2))
    size = np.linalg.norm(layers, axis=(1, 2))
    misalignment = 1 - inner / (size * np.linalg.norm(force, axis=(1, 2)))
    classified = accuracy > np.log(len(X))
    normalized = (accuracy / size**3)[classified]
    return Evidence(
        (
            measured("misalignment at the end", misalignment[-1], "<=", 0.01),
            measured(
                "least growth of the smoothed margin",
                np.diff(normalized) / normalized[1:],
                ">=",
                -1e-6,
            ),
            measured(r"largest $|\theta|$", np.abs(theta).max(), ">=", 1e4),
        )
    )


CLAIMS = (stationary,)
