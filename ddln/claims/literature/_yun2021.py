"""Yun, Krishnan and Mobahi 2021: the norm-like function of deep diagonal networks."""

import jax.numpy as jnp
import numpy as np
from scipy.special import gamma

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.limits import l1_weights
from ddln.parameterizations import DeepDiagonal
from ddln.potentials import potential

# The potential is a quadrature to rounding.
EXACT = 1e-11
# By the number of layers: q, h and the largest time.
CURVES = {
    2: (np.sinh, lambda t: np.sinh(2 * t) / 2, 2.0),
    3: (np.tan, lambda t: np.tan(t) / np.cos(t) ** 2, 1.5),
    4: (lambda t: t / np.sqrt(1 - t**2), lambda t: t / (1 - t**2) ** 2, 0.95),
}


@claim(id="yun2021-norm")
def norm(settings: Settings) -> Evidence:
    r"""Corollary 5: The function that deep diagonal networks minimize.

    From $u^L = 0$ and the other layers $\alpha \bar u$ the limit minimizes, among the solutions, a sum of
    one function of each coordinate.

        Q(\theta) = \alpha^2 \sum_i \bar u_i^2 H_L\Bigl(\frac{\theta_i}{\alpha^L |\bar u_i|^L}\Bigr), \qquad
        H_L(\tau) = \int_0^\tau h_L^{-1}, \quad p' = p^{L-2} q, \quad q' = p^{L-1}, \quad h_L = p^{L-1} q

    Fixture: $L = 2$: $h = \frac12 \sinh 2t$; $L = 3$: $h = \sec^2 t \tan t$; $L = 4$: $h = t / (1 -
    t^2)^2$; $\alpha = 0.7$, seven coordinates with $\bar u$ from $-1$ to $1.4$.

    As summarized: the potential of this package at the points of the curve.
    """
    alpha, ubar = 0.7, np.linspace(-1.0, 1.4, 7)
    numbers = []
    for depth, (q, h, last) in CURVES.items():
        t = np.linspace(-0.9, 1.0, 7) * last
        theta = h(t) * (alpha * np.abs(ubar)) ** depth
        printed = alpha**2 * np.sum(ubar**2 * (h(t) * t - q(t) ** 2 / 2))
        network = DeepDiagonal.zero_last(jnp.asarray(ubar), depth, alpha)
        ours = float(potential(network).value(jnp.asarray(theta)))
        numbers.append(compared(f"$Q$, $L = {depth}$", ours, printed, EXACT * abs(printed)))
    return Evidence(tuple(numbers))


@claim(id="yun2021-range")
def dual_range(settings: Settings) -> Evidence:
    r"""Corollary 5: The range of the dual.

    For $L \geq 3$ the inverse of $h_L$ is bounded, so that the function grows linearly at infinity.

        C_L = \frac{\sqrt\pi}{2} \frac{\Gamma(\frac{L-2}{2})}{\Gamma(\frac{L-1}{2})}, \qquad C_3 =
        \frac\pi2, \quad C_4 = 1, \quad C_6 = \frac23

    Fixture: one coordinate, the last layer 0 and the others 1; $L = 3, \ldots, 8$.

    As summarized: the weights of the vanishing l1 norm.
    """
    named = {3: np.pi / 2, 4: 1.0, 6: 2 / 3}
    numbers = []
    for depth in range(3, 9):
        ours = float(l1_weights(DeepDiagonal.zero_last(jnp.ones(1), depth))[0, 0])
        printed = np.pi**0.5 / 2 * gamma((depth - 2) / 2) / gamma((depth - 1) / 2)
        printed = named.get(depth, printed)
        numbers.append(compared(f"$C_{depth}$", ours, printed, EXACT))
    return Evidence(tuple(numbers))


CLAIMS = (norm, dual_range)
