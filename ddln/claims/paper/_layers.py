"""Section 2.1: what the layers do along the flow."""

from ddln import theory
from ddln.claims import _problems as problems
from ddln.claims._claim import Settings, claim
from ddln.claims._evidence import Evidence, checked

DEPTHS = (2, 3)


@claim(
    id="paper-equation-4",
    number="Proposition 1.1, Eq. (4)",
    title="The rate of the squared layers",
    statement=(
        r"The squares of all layers change at the rate $-\theta \odot \nabla\mathcal{L}(\theta)$."
    ),
    formula=(
        r"\frac{d}{dt} (u^j \odot u^j)(t) = \frac{d}{dt} (u^k \odot u^k)(t)"
        r" = -\theta(t) \odot \nabla\mathcal{L}(\theta(t))"
    ),
    expected="erratum",
    correction=(
        "The derivative of a square has the factor 2: "
        r"$\frac{d}{dt} (u^j \odot u^j) = -2\, \theta \odot \nabla\mathcal{L}(\theta)$."
    ),
    equations=(4,),
)
def squared_layer_rate(settings: Settings) -> Evidence:
    """Labarrière et al. 2024, equation 4, integrated, along flows of the layers."""
    numbers = []
    for depth in DEPTHS:
        flows, losses = problems.flows(settings, depth), problems.losses(settings)
        for case, constant in (("as printed", 1.0), ("corrected", 2.0)):
            check = problems.each(
                lambda flow, loss, c=constant: theory.squared_layer_rate(flow, loss, constant=c),
                flows,
                losses,
            )
            numbers.append(checked(check, f"$L = {depth}$, factor {constant:g}", case=case))
    return Evidence(tuple(numbers))


@claim(
    id="paper-equation-5",
    number="Proposition 1.1, Eq. (5)",
    title="Differences of squared layers are conserved",
    statement="The squares of all layers change by the same amount along the flow.",
    formula=(r"u^j(t)^{\odot 2} - u^j(0)^{\odot 2} = u^k(t)^{\odot 2} - u^k(0)^{\odot 2}"),
    equations=(5,),
)
def conservation(settings: Settings) -> Evidence:
    """Labarrière et al. 2024, Proposition 1.1, equation 5, along flows of the layers."""
    numbers = []
    for depth in DEPTHS:
        check = problems.each(
            theory.conservation, problems.flows(settings, depth), problems.losses(settings)
        )
        numbers.append(checked(check, f"$L = {depth}$"))
    return Evidence(tuple(numbers))
