"""The decorator `law` and the registry, with a statement from outside of the package.

Also the shared modules `_checks`, `_decrease`, `_metric`, `_row_space` and `_rows`, where no test of
a statement shows their part.
"""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws_table import PAGE, page_with, rows
from theory_cases import random_cases, trajectory

import ddln
from ddln import theory
from ddln.theory._decrease import decrease
from ddln.theory._row_space import projection, row_space

TS = np.geomspace(0.1, 5.0, 8)


@theory.law(
    source="the chain rule",
    relation="<=",
    axes=("time",),
    needs=(ddln.LeastSquares, lambda flow: flow.initial.separable),
)
def below_the_start(flow, loss, factor=1.0):
    """The loss never exceeds
    its value at the start.

    A second paragraph.
    """
    first = loss(flow.initial.effective())[None]
    return theory.Sides(
        lhs=flow.loss,
        rhs=factor * first,
        tolerance=1e-9,
        compared=jnp.isfinite(flow.ts),
        hypotheses={"the loss is finite": jnp.all(jnp.isfinite(flow.loss))},
    )


def flow_and_loss():
    case = random_cases(3)[0]
    return trajectory(case, TS), ddln.LeastSquares(case.X, case.y, case.scale)


def test_the_check_has_the_metadata_of_its_law():
    flow, loss = flow_and_loss()
    check = below_the_start(flow, loss)
    law = below_the_start.law
    assert (check.name, law.name) == ("below_the_start",) * 2
    assert check.statement == "The loss never exceeds its value at the start"
    for field in ("source", "statement", "relation", "axes"):
        assert getattr(check, field) == getattr(law, field)
    assert check.status == "holds"
    assert below_the_start(flow, loss, factor=1e-3).status == "violated"
    unknown = dataclasses.replace(flow, loss=jnp.full_like(flow.loss, jnp.nan))
    assert below_the_start(unknown, loss).status == "hypothesis not met"


def test_the_check_has_the_signature_of_its_function():
    signature = inspect.signature(below_the_start)
    assert list(signature.parameters) == ["flow", "loss", "factor"]
    assert signature.return_annotation is theory.Check
    assert inspect.signature(theory.conservation).return_annotation is theory.Check


def test_transformations():
    flow, loss = flow_and_loss()

    def check(factor):
        return below_the_start(flow, loss, factor)

    assert jax.jit(jax.vmap(check))(jnp.array([1.0, 1e-3])).status.tolist() == ["holds", "violated"]
    slope = jax.grad(lambda factor: check(factor).rhs[0])(1.0)
    np.testing.assert_allclose(slope, loss(flow.initial()))


def test_checks_choose_by_needs():
    flow, loss = flow_and_loss()
    laws = [*theory.LAWS, below_the_start.law]
    assert set(theory.checks(flow, loss, laws=laws)) == {
        "below_the_start",
        *theory.checks(flow, loss),
    }
    law = below_the_start.law
    assert law.applies(flow, loss)
    assert not law.applies(flow, lambda theta: jnp.sum(theta))
    mixed = dataclasses.replace(flow, initial=ddln.MatrixFactorization(np.eye(2), np.eye(2)))
    assert not law.applies(mixed, loss)
    assert not dataclasses.replace(law, needs=None).applies(flow, loss)
    assert dataclasses.replace(law, needs=()).applies(mixed, loss)


def test_the_registry_has_every_statement_once():
    exported = [value.law for value in vars(theory).values() if hasattr(value, "law")]
    exported = [law for law in exported if isinstance(law, theory.Law)]
    assert {law.name for law in theory.LAWS} == {law.name for law in exported}
    assert len(theory.LAWS) == len(exported)
    for law in theory.LAWS:
        assert getattr(theory, law.name).law is law
        assert law.statement.rstrip(".:,") == law.statement


def test_the_page_has_the_table_of_the_registry():
    assert page_with(rows()) == PAGE.read_text(encoding="utf-8"), "run tests/theory/laws_table.py"


def test_a_missing_row_is_noticed():
    assert page_with(rows().replace("`conservation`", "")) != PAGE.read_text(encoding="utf-8")


def test_decrease_leaves_out_what_has_converged():
    values, error = jnp.array([3.0, 2.0, 2.5, 2.5]), jnp.full(4, 0.01)
    sides = decrease(jnp.array([4.0]), values, jnp.array([0.02]), error, jnp.ones(4, bool))
    np.testing.assert_allclose(sides.rhs, [4, 3, 2, 2.5])
    np.testing.assert_allclose(sides.tolerance, [0.03, 0.02, 0.02, 0.02])
    assert sides.compared.tolist() == [True, True, True, False]


def test_row_space():
    X = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]])
    rows = row_space(ddln.LeastSquares(X, np.ones(2)))
    np.testing.assert_allclose(rows.singular, [5, 0], atol=1e-14)
    inside, outside = np.array([1.0, 2.0, 0.0]), np.array([2.0, -1.0, 3.0])
    projected, error = projection(jnp.stack([inside, outside]), jnp.full((2, 3), 0.1), rows)
    np.testing.assert_allclose(projected, [inside, 0 * outside], atol=1e-14)
    np.testing.assert_allclose(error, 0.1 + 0.1 * np.sqrt(3))
    with pytest.raises(ValueError, match=r"must be a `ddln.AbstractPredictionLoss`"):
        row_space(lambda theta: jnp.sum(theta))
