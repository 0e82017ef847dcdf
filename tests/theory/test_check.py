"""Verdicts from both sides of a statement."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln.theory import Check


def make(lhs, rhs, relation="<=", tolerance: Any = 1e-6, compared: Any = True, **rest):
    lhs, rhs = jnp.asarray(lhs, float), jnp.asarray(rhs, float)
    return Check(
        name="example",
        source="a book",
        statement="left is at most right",
        relation=relation,
        axes=("time",),
        lhs=lhs,
        rhs=rhs,
        tolerance=tolerance,
        compared=jnp.broadcast_to(jnp.asarray(compared), lhs.shape),
        **rest,
    )


@pytest.mark.parametrize(
    ("relation", "rhs", "status"),
    [
        ("<=", 2.0, "holds"),
        ("<=", 1.0, "holds"),
        ("<=", 1 - 1e-15, "holds"),  # equal to rounding
        ("<=", 1 - 1e-7, "inconclusive"),
        ("<=", 1 - 1e-5, "violated"),
        ("<=", np.nan, "inconclusive"),
        ("<", 1 + 1e-7, "holds"),
        ("<", 1.0, "inconclusive"),
        ("<", 1 - 1e-5, "violated"),
        ("==", 1 + 1e-7, "holds"),
        ("==", 1 - 1e-7, "holds"),
        ("==", 1 + 1e-5, "violated"),
        ("==", 1 - 1e-5, "violated"),
        ("==", np.nan, "inconclusive"),
    ],
)
def test_one_deciding_entry(relation, rhs, status):
    check = make([0.0, 1.0, 0.0], [0.0 if relation == "==" else 5.0, rhs, 0.0], relation)
    check = jax.tree.map(lambda leaf: leaf[:2], check)
    assert check.status == status
    assert bool(check.holds) == (status == "holds")
    assert bool(check.violated) == (status == "violated")
    assert check.where.tolist() == [False, status == "violated"]


def test_strict_claim_about_exact_numbers():
    assert make([0.0], [0.0], "<", tolerance=0.0).status == "violated"
    assert make([0.0], [1e-300], "<", tolerance=0.0).status == "holds"


def test_margin():
    assert make([1.0, 2.0], [3.0, 1.0]).margin.tolist() == [2.0, -1.0]
    assert make([1.0, 2.0], [3.0, 1.0], "==").margin.tolist() == [-2.0, -1.0]


def test_entries_not_compared_do_not_count():
    lhs, rhs = [0.0, 9.0, jnp.nan], [1.0, 0.0, 0.0]
    assert make(lhs, rhs, compared=[True, False, False]).status == "holds"
    assert make(lhs, rhs, compared=[False, False, False]).status == "inconclusive"


def test_unmet_hypothesis_comes_first():
    hypotheses = {"it rains": jnp.array(False), "it is cold": jnp.array(True)}
    check = make([1.0], [0.0], hypotheses=hypotheses)
    assert check.status == "hypothesis not met"
    assert not check.violated
    assert "Not met: it rains." in str(check)


def test_text():
    check = make([0.0, 1.0], [1.0, 0.5], remarks={"A remark": jnp.array(True)})
    text = str(check)
    assert text == (
        "Violated. Compared 2 of 2 entries, 1 violated; the closest is time 1: 1 <= 0.5, "
        "numerical error 1e-06. A remark. example (a book): left is at most right"
    )
    assert repr(check) == f"<Check {text}>"
    assert "Nothing to compare." in str(make([0.0], [1.0], compared=[False]))
    assert "A remark" not in str(make([0.0], [1.0], remarks={"A remark": jnp.array(False)}))


def test_batch():
    def one(rhs, met):
        return make([1.0, 1.0], jnp.stack([rhs, rhs]), hypotheses={"h": met})

    rhs = jnp.array([2.0, 0.0, 1 - 1e-7, 0.0])
    check = jax.jit(jax.vmap(one))(rhs, jnp.array([True, True, True, False]))
    expected = ["holds", "violated", "inconclusive", "hypothesis not met"]
    assert check.status.tolist() == expected
    assert check.holds.tolist() == [True, False, False, False]
    assert [jax.tree.map(lambda leaf: leaf[i], check).status for i in range(4)] == expected  # noqa: B023
    assert str(check).startswith("Of 4 lanes: holds in 1, hypothesis not met in 1,")


def test_text_while_traced():
    texts = []

    def one(rhs):
        check = make([1.0], rhs)
        texts.append(repr(check))
        return check.holds

    assert jax.jit(one)(jnp.array([2.0]))
    assert "[traced]" in texts[0]


def test_tolerance_is_not_differentiated():
    def margin(x):
        check = make([0.0], x[None], tolerance=jnp.sqrt(x))
        return (check.margin + check.tolerance)[0]

    assert jax.grad(margin)(jnp.array(0.0)) == 1.0


@pytest.mark.parametrize(
    ("change", "name"), [({"relation": ">="}, "relation"), ({"axes": ("a", "b")}, "axes")]
)
def test_misuse(change, name):
    arguments = {
        "name": "n", "source": "s", "statement": "t", "relation": "<=", "axes": ("time",),
        "lhs": jnp.zeros(2), "rhs": jnp.zeros(2), "tolerance": 0.0, "compared": jnp.ones(2, bool),
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        Check(**(arguments | change))


def test_truth_is_that_the_statement_holds():
    assert make([0.0], [1.0])
    assert not make([1.0], [0.0])
    assert not make([0.0], [1.0], hypotheses={"never": jnp.array(False)})
    batch = jax.vmap(lambda rhs: make([1.0], rhs))(jnp.array([[2.0], [0.0]]))
    with pytest.raises(ValueError, match=r"`check\.holds\.all\(\)`"):
        bool(batch)
