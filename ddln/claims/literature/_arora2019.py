"""Arora et al. 2019: the singular values of deep matrix factorizations."""

import matplotlib.pyplot as plt
import numpy as np

from ddln import plots
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.claims.literature._arora2018 import EXACT, balanced_factors, velocity


@claim(id="arora2019-singular-values")
def singular_values(settings: Settings) -> Evidence:
    r"""As summarized: The rate of a singular value.

    Depth speeds up large singular values and slows small ones down: from balanced matrices the r-th one
    moves at a rate with a power of itself.

        \dot\sigma_r = -N (\sigma_r^2)^{1 - 1/N} \langle G, u_r v_r^\top \rangle

    Fixture: $N = 2, 3, 4$ balanced factors of size 4, singular values of the product between 0.5 and 2,
    standard normal gradient.

    The diagonal of the velocity in the singular basis, by derivatives of the map.
    """
    rng = np.random.default_rng(settings.seed)
    numbers = []
    for depth in (2, 3, 4):
        factors, U, s, V = balanced_factors(rng, depth)
        G = rng.normal(size=(4, 4))
        ours = np.diag(U.T @ velocity(factors, G) @ V)
        printed = -depth * s ** (2 - 2 / depth) * np.diag(U.T @ G @ V)
        numbers.append(compared(rf"$\dot\sigma_r$, $N = {depth}$", ours, printed, EXACT))
    with plots.style():
        figure, ax = plt.subplots()
        s = np.geomspace(1e-3, 1, 100)
        for depth in (1, 2, 3, 4):
            ax.loglog(s, depth * s ** (2 - 2 / depth), label=f"$N = {depth}$")
        ax.set(xlabel=r"$\sigma$", ylabel="rate per unit of gradient")
        ax.legend()
    return Evidence(
        tuple(numbers),
        figure=figure,
        caption="The rate of a singular value against its size: the deeper, the slower are small ones.",
    )


CLAIMS = (singular_values,)
