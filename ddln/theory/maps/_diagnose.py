"""A report on the gradient flow of a map."""

import dataclasses
import html

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import PRNGKeyArray
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import mirror_geometry, potential
from ddln.theory._check import Check
from ddln.theory.maps._conservation_laws import ConservationLaws, count_conservation_laws
from ddln.theory.maps._mirror_hypotheses import commutator, integrability, regularity
from ddln.theory.maps._orbit import orbit_points
from ddln.theory.maps._points import FlatMap, generator

ORBIT_POINTS, RANDOM_POINTS = 2, 2
# Number of conserved functions in a report, and the characters of each.
SHOWN, LONGEST = 3, 100


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings of `diagnose`; printed, a report in text or in a notebook.

    Attributes:
        name: the class of the parameterization.
        weights: P.
        theta_shape: the shape of theta.
        commuting: the check `commutator` at the weights, on the orbit through them, and at random
            points around them.
        integrable: the check `integrability` at the same points.
        regular: the check `regularity` at the same points.
        separable: True if no weight moves two entries of theta, as seen in the Jacobian.
        homogeneity: the degree L with h(s w) = s^L h(w) for s > 0, by Euler's identity, or None.
        mirror_flow: "yes", "no", "on this submanifold" or "undecided".
        reason: the reason for that verdict.
        potential: "closed form", "numerical" or "none".
        conservation: the conservation laws at generic weights.
        undecided: the hypotheses that numbers at finitely many points cannot decide.
    """

    name: str
    weights: int
    theta_shape: tuple[int, ...]
    commuting: Check
    integrable: Check
    regular: Check
    separable: bool
    homogeneity: float | None
    mirror_flow: str
    reason: str
    potential: str
    conservation: ConservationLaws
    undecided: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """The lines of the report: a title, and the finding."""
        size = int(np.prod(self.theta_shape))
        ranks = np.asarray(self.regular.rhs, int)
        residual = float(jnp.max(self.commuting.lhs))
        formulas = self.conservation.quadratics.formulas()[:SHOWN]
        degree = self.homogeneity
        rows = [
            ("map", f"{self.name}, {self.weights} weights, theta of shape {self.theta_shape}"),
            (
                "commuting",
                f"{'yes' if self.commuting.holds else 'no'}, largest relative bracket {residual:.1e}",
            ),
            (
                "regular",
                f"{'yes' if self.regular.holds else 'no'}, rank {ranks[0]} here and {ranks.max()} "
                f"around, theta has {size} entries",
            ),
            ("separable", "yes" if self.separable else "no"),
            ("homogeneous", "no" if degree is None else f"of degree {degree:g}"),
            ("mirror flow", f"{self.mirror_flow}: {self.reason}"),
            ("potential", self.potential),
            ("conservation laws", str(self.conservation)),
        ]
        rows += [
            ("conserved", text if len(text) <= LONGEST else f"{text[:LONGEST]} ...")
            for text in formulas
        ]
        return rows + [("not decided", text) for text in self.undecided]

    def __str__(self) -> str:
        return "\n".join(f"{what + ':':<19}{finding}" for what, finding in self.rows())

    def __repr__(self) -> str:
        return f"<Diagnosis\n{self}>"

    def _repr_html_(self) -> str:
        cells = (
            f"<tr><th style='text-align:left'>{html.escape(what)}</th>"
            f"<td style='text-align:left'>{html.escape(finding)}</td></tr>"
            for what, finding in self.rows()
        )
        return f"<table>{''.join(cells)}</table>"


def diagnose(
    parameterization: AbstractParameterization, *, key: PRNGKeyArray | None = None
) -> Diagnosis:
    """A report on the gradient flow of theta = h(w), for all losses, from these weights.

    All findings except the certificate of the conservation laws are numerical evidence at random
    points: on the orbit through the weights, the set that the flow can reach, and around the weights.

    - Brackets that vanish on the orbit and a Jacobian of full rank make a mirror flow (Li et al.
      2022). With a lower rank theta moves on a submanifold of that dimension, and the flow on it is
      a mirror flow.
    - A metric that is not integrable there rules out every potential (`integrability`).
    - Anything in between is undecided.

    Example:
        >>> print(diagnose(ddln.FromFunction(lambda w: w[0] * jnp.exp(w[1]), jnp.ones((2, 3)))))

    Args:
        parameterization: the map, at its weights, which must be known.
        key: for the random points; None takes `jax.random.key(0)`.

    Returns:
        the report; `print` it, or leave it to a notebook.

    Raises:
        ValueError: as in `count_conservation_laws`; also if the parameterization declares a homogeneity
            or separability that it does not have.
    """
    laws = count_conservation_laws(parameterization, key=key)
    flat_map, rng = FlatMap(parameterization), generator(key)
    reached = orbit_points(flat_map, rng, ORBIT_POINTS)
    points = jnp.asarray(np.concatenate([reached, flat_map.random(rng, RANDOM_POINTS)]))
    batch = jax.vmap(flat_map.at)(points)
    commuting = commutator(parameterization, points=batch, key=key)
    integrable = integrability(parameterization, points=batch, key=key)
    regular = regularity(parameterization, points=batch)
    on_orbit = slice(0, len(reached))
    verdict, reason = _mirror_flow(
        bool(np.all(np.asarray(commuting.lhs[on_orbit] <= commuting.tolerance[on_orbit]))),
        bool(np.any(np.asarray(integrable.where[on_orbit]))),
        int(regular.rhs[0]),
        int(regular.lhs[0]),
        bool(commuting.holds),
    )
    separable, homogeneity = _structure(flat_map, points)
    _require_declarations(parameterization, separable, homogeneity)
    return Diagnosis(
        name=type(parameterization).__name__,
        weights=flat_map.flat.size,
        theta_shape=parameterization.effective().shape,
        commuting=commuting,
        integrable=integrable,
        regular=regular,
        separable=separable,
        homogeneity=homogeneity,
        mirror_flow=verdict,
        reason=reason,
        potential=_potential(parameterization, verdict),
        conservation=laws,
        undecided=_undecided(verdict, separable, laws),
    )


def _mirror_flow(
    commuting_here: bool, not_integrable: bool, rank: int, size: int, commuting: bool
) -> tuple[str, str]:
    """The verdict on a mirror flow, and its reason."""
    if commuting_here and rank == size:
        where = "" if commuting else " on the orbit from here, though not around"
        return "yes", f"the gradient fields commute{where}, and the Jacobian has full rank"
    if commuting_here:
        return (
            "on this submanifold",
            f"the gradient fields commute, but theta moves in {rank} dimensions of {size} from here",
        )
    if not_integrable:
        return "no", "the metric is not the inverse Hessian of any function"
    return (
        "undecided",
        "the gradient fields do not commute, but the metric could be an inverse Hessian",
    )


@eqx.filter_jit
def _jacobians(flat_map: FlatMap, points):
    """theta, |J| and J w at each point."""

    def one(w):
        rows = flat_map.jacobian(w)
        return flat_map.effective(w).reshape(-1), jnp.abs(rows), rows @ w

    return jax.lax.map(one, points)


def _structure(flat_map: FlatMap, points) -> tuple[bool, float | None]:
    """True if the map is separable, and its degree of homogeneity."""
    theta, sizes, euler = (np.asarray(one) for one in _jacobians(flat_map, points))
    negligible = float(np.finfo(theta.dtype).eps) ** 0.5
    largest = sizes.max(axis=(0, 2), keepdims=True)
    used = np.any(sizes > negligible * largest, axis=0)
    separable = bool(np.all(used.sum(axis=0) <= 1))
    square = np.sum(theta**2)
    if square == 0:
        return separable, None
    degree = float(np.sum(euler * theta) / square)
    error = np.linalg.norm(euler - degree * theta) / (np.linalg.norm(euler) + np.sqrt(square))
    if error > negligible:
        return separable, None
    return separable, float(round(degree)) if abs(degree - round(degree)) < 1e-6 else degree


def _require_declarations(
    parameterization: AbstractParameterization, separable: bool, homogeneity: float | None
) -> None:
    """Require declared properties of the parameterization to agree with those found."""
    if parameterization.separable and not separable:
        raise ValueError(
            f"{type(parameterization).__name__} declares itself separable, but one of its weights "
            "moves two entries of theta. Remove `separable = True`."
        )
    declared = parameterization.homogeneity
    if declared is not None and homogeneity is not None and declared != homogeneity:
        raise ValueError(
            f"{type(parameterization).__name__} declares the homogeneity {declared}, but Euler's "
            f"identity J w = L theta gives {homogeneity:g}. Correct or remove `homogeneity`."
        )


def _potential(parameterization: AbstractParameterization, verdict: str) -> str:
    """The kind of potential."""
    registered = potential.dispatch(type(parameterization)) is not potential.dispatch(object)
    if registered or mirror_geometry(parameterization) is not None:
        return "closed form"
    return "numerical" if verdict == "yes" else "none"


def _undecided(verdict: str, separable: bool, laws: ConservationLaws) -> tuple[str, ...]:
    """The hypotheses that numbers at finitely many points cannot decide."""
    found = []
    if verdict in ("yes", "on this submanifold"):
        found.append("that the brackets vanish at all points, not only at those looked at")
        if not separable:
            found.append(
                "that every xi between reachable ones is reachable (Assumption 3.5 of Li et al. 2022, "
                "for a potential of Legendre type)"
            )
    if not laws.certified:
        found.append(
            "that there are no more conservation laws, or fewer: the count has no certificate"
        )
    if not laws.quadratics.complete:
        found.append("whether further functions of degree two are conserved")
    return tuple(found)
