"""The cards of results in notebooks, read back as XML."""

from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln


def read(card):
    """The title, the rows and the points of the curve of a card."""
    tree = ElementTree.fromstring(card)
    rows = {row[0].text: row[1].text for row in tree.iter("tr")}
    curve = [
        point.split(",") for line in tree.iter("polyline") for point in line.get("points").split()
    ]
    return tree.find("strong").text, rows, np.array(curve, float)


@pytest.fixture(scope="module")
def flows():
    """A flow, and a batch of two of which one fails."""
    loss = ddln.LeastSquares(jnp.eye(2), jnp.array([1.0, -1.0]))

    def flow(scale):
        start = ddln.DeepDiagonal(scale * jnp.array([[1.0, 1.0], [0.5, 0.5]]))
        return ddln.gradient_flow(start, loss, 3.0, ts=jnp.linspace(0, 3.0, 5), throw=False)

    return jax.jit(jax.vmap(flow))(jnp.array([1.0, jnp.nan]))


def test_a_flow(flows):
    flow = jax.tree.map(lambda leaf: leaf[0], flows)
    title, rows, curve = read(flow._repr_html_())
    assert title == "Trajectory of a DeepDiagonal"
    assert rows["theta"] == "(5, 2)"
    assert rows["times"] == "5, from 0 to 3"
    assert float(rows["loss at the end"]) == pytest.approx(float(flow.loss[-1]), rel=1e-3)
    assert int(float(rows["steps"])) == int(flow.stats["num_steps"])
    assert rows["result"] == "successful"
    # The curve is the logarithm of the loss, upside down, as pixels go.
    expected = np.log10(flow.loss)
    share = (expected - expected[-1]) / (expected[0] - expected[-1])
    np.testing.assert_allclose(curve[:, 1], 34 - 32 * share, atol=0.051)
    assert repr(flow).startswith("Trajectory(")


def test_a_batch_counts_outcomes(flows):
    _, rows, _ = read(flows._repr_html_())
    assert rows["lanes"] == "2"
    assert rows["result"].startswith("1 successful; 1 The initialization has NaN")


def test_a_sweep_with_missing_lanes():
    result = ddln.SweepResult(
        ts=np.tile([0.0, 1.0], (3, 1)),
        theta=np.zeros((3, 2, 4)),
        loss=np.array([[1.0, 0.1], [1.0, 0.3], [np.nan, np.nan]]),
        codes=np.array([0, 0, -1], np.int32),
        stats={"num_steps": np.array([5, 7, 0])},
        values=None,
        method="made up",
    )
    title, rows, _ = read(result._repr_html_())
    assert title == "SweepResult"
    assert rows["loss at the end (median)"] == "0.2"
    assert rows["result"] == "1 missing; 2 successful"


def test_a_check_a_limit_and_a_potential():
    check = ddln.theory.Check(
        "of_two", "a < source >", "1 <= 2", "<=", ("time",), jnp.array([1.0, 3.0]), jnp.array([2.0, 4.0]),
        0.0, jnp.array([True, True]),
    )  # fmt: skip
    title, rows, curve = read(check._repr_html_())
    assert title == "of two"
    assert rows["verdict"].startswith("Holds.")
    assert rows["source"] == "a < source >"
    assert len(curve) == 2
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), check)
    assert "2" in read(batch._repr_html_())[1]["verdict"]
    # Entries of a square keep their sign.
    start = ddln.Square(jnp.array([0.5, -1.0]))
    _, rows, _ = read(ddln.potential(start)._repr_html_())
    assert rows["domain"] == "from 0 to inf in every coordinate"
    end = ddln.Limit(
        theta=jnp.ones(2), dual=jnp.ones(2), multipliers=jnp.ones(1), parameterization=start,
        residual=jnp.asarray(2e-12), gap=jnp.asarray(3e-13), result=ddln.RESULTS.limit_out_of_reach,
        stats={"num_steps": 4}, method="path",
    )  # fmt: skip
    title, rows, _ = read(end._repr_html_())
    assert title == "Limit of a Square"
    assert (rows["residual"], rows["gap"], rows["method"]) == ("2e-12", "3e-13", "path")
    assert rows["result"].startswith("The limit was not found")


def test_no_card_while_traced(flows):
    seen = []

    @jax.jit
    def look(flow):
        seen.append(flow._repr_html_())
        return flow.loss

    look(flows)
    assert seen == [None]
