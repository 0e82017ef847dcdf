"""Carlson 1995: elliptic integrals, here the ends of the range of the dual of three and four layers."""

import jax.numpy as jnp
import numpy as np

from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, compared
from ddln.limits import l1_weights
from ddln.parameterizations import DeepDiagonal


def upper_weight(squares) -> float:
    """W_+ of one coordinate whose layers have these squares, all layers positive."""
    layers = jnp.sqrt(jnp.asarray(squares, float))[:, None]
    return float(l1_weights(DeepDiagonal(layers))[0, 0])


@claim(id="carlson1995-three-layers")
def three_layers(settings: Settings) -> Evidence:
    r"""Consistency checks: Three layers from the values of $R_F$.

    The dual of three positive layers with the squares $x, y, z$ grows up to $R_F(x, y, z)$: the integral
    over the smallest layer is the one that defines $R_F$.

        R_F(x, y, z) = \frac12 \int_0^\infty \frac{dt}{\sqrt{(t + x)(t + y)(t + z)}}

    Fixture: one coordinate, layers $\sqrt x, \sqrt y, \sqrt z$; the arguments (1, 2, 0), (1/2, 1, 0) and
    (2, 3, 4).

    The weights of the vanishing l1 norm against Carlson's table, 14 digits.
    """
    table = {
        (1.0, 2.0, 0.0): "1.3110287771461",
        (0.5, 1.0, 0.0): "1.8540746773014",
        (2.0, 3.0, 4.0): "0.58408284167715",
    }
    return Evidence(
        tuple(
            compared(f"$R_F{point}$".replace(".0", ""), upper_weight(point), printed)
            for point, printed in table.items()
        )
    )


@claim(id="carlson1995-four-layers")
def four_layers(settings: Settings) -> Evidence:
    r"""Consistency checks: Four layers from $R_F(2, 3, 4)$.

    With a fourth layer that starts at zero the integral over it is, by $r \mapsto 1/r$, again a value of
    $R_F$.

        \int_0^\infty \frac{dr}{\sqrt{(r^2 + a)(r^2 + b)(r^2 + c)}} = \frac{R_F(1/a, 1/b, 1/c)}{\sqrt{abc}}

    Fixture: one coordinate, layers $0, 1/\sqrt2, 1/\sqrt3, 1/2$.

    The weight of the vanishing l1 norm against the printed value, 14 digits.
    """
    ours = upper_weight([0.0, 1 / 2, 1 / 3, 1 / 4]) / np.sqrt(2 * 3 * 4)
    return Evidence((compared("$R_F(2, 3, 4)$", ours, "0.58408284167715"),))


CLAIMS = (three_layers, four_layers)
