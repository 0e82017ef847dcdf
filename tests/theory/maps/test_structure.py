"""What a map is: commuting or not, regular or not, and what its flow conserves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln import theory
from ddln.theory.maps._orbit import _finite_leg
from ddln.theory.maps._points import FlatMap

RNG = np.random.default_rng(0)
W, V = RNG.uniform(0.5, 1.5, (2, 3))


def linear_network(*widths):
    shapes = zip(widths[1:], widths[:-1], strict=True)
    return ddln.DeepMatrixFactorization([RNG.normal(size=shape) for shape in shapes][::-1])


def balancedness(*widths):
    """The number of independent entries of U_(l+1)^T U_(l+1) - U_l U_l^T, layer by layer."""
    laws = 0
    for before, width, after in zip(widths, widths[1:], widths[2:], strict=False):
        around = before + after
        full = width <= around
        laws += width * (width + 1) // 2 if full else around * width - around * (around - 1) // 2
    return laws


def relu_network(*widths, bias):
    shapes = zip(widths[1:], widths[:-1], strict=True)
    biases = [RNG.normal(size=width) for width in widths[1:]] if bias else None
    return theory.path_products([RNG.normal(size=shape) for shape in shapes], biases)


# With the count, and whether functions of degree two make it up.
COUNTS = {
    **{
        f"linear {widths}": (linear_network(*widths), balancedness(*widths), True)
        for widths in [(3, 2, 4), (1, 5, 2), (1, 3, 3, 2), (2, 2, 2, 2, 2)]
    },
    # One field only: every function of the six others along its curves is conserved.
    "linear (1, 2, 2, 1)": (linear_network(1, 2, 2, 1), 7, False),
    "deep diagonal": (ddln.DeepDiagonal(RNG.normal(size=(4, 3))), 9, True),
    "square": (ddln.Square(np.array([1.0, -0.5, 2.0])), 0, True),
    "wide symmetric": (ddln.SymmetricFactorization(RNG.normal(size=(2, 3))), 2, False),
    "relu": (relu_network(2, 3, 2, bias=False), 3, True),
    "relu with bias": (relu_network(2, 3, 2, 1, bias=True), 5, True),
}


# Entries of the product of very different sizes.
SIZES = np.array([[1.0, 1e-8], [1e-8, 1e-8]])
COUNTS["linear (2, 2, 2), scaled"] = (
    ddln.FromFunction(
        lambda w: SIZES * (w[:4].reshape(2, 2) @ w[4:].reshape(2, 2)), RNG.uniform(0.5, 1.5, 8)
    ),
    3,
    True,
)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    parameterization, count, quadratic = COUNTS[name]
    laws = theory.count_conservation_laws(parameterization)
    assert laws.count == count, laws
    assert laws.certified == quadratic, laws
    assert laws.clear
    assert laws.quadratics.complete


def test_an_ill_conditioned_count_is_an_interval():
    laws = theory.count_conservation_laws(linear_network(1, 10, 10, 2))
    assert laws.independent == balancedness(1, 10, 10, 2) <= laws.count
    assert laws.certified or not laws.clear


def test_quadratics_are_conserved_along_flows():
    start = ddln.MatrixFactorization(RNG.normal(size=(3, 2)), RNG.normal(size=(2, 2)))
    loss = ddln.LeastSquares(RNG.normal(size=(4, 3, 2)) / 2, RNG.normal(size=4))
    flow = ddln.gradient_flow(start, loss, 2.0, ts=[0.5, 1.0, 2.0], rtol=1e-9, atol=1e-11)
    quadratics = theory.count_conservation_laws(start).quadratics
    assert len(quadratics) == 3
    values = jax.vmap(quadratics)(flow.parameterization)
    np.testing.assert_allclose(values, np.broadcast_to(quadratics(start), (3, 3)), atol=1e-7)
    moved = jax.tree.map(lambda w: w + 0.1, start)
    assert np.max(np.abs(quadratics(moved) - quadratics(start))) > 1e-3
    assert any("left[0, 0]^2" in text for text in quadratics.formulas())


def test_formula_with_linear_terms():
    """theta = (w_0 + 1) (w_1 + 1) conserves the difference of the squares; a constant changes nothing."""
    shifted = ddln.FromFunction(lambda w: jnp.stack([(w[0] + 1) * (w[1] + 1), jnp.ones(())]), W[:2])
    laws = theory.count_conservation_laws(shifted)
    assert laws.certified
    assert laws.quadratics.formulas() == [
        "weights[0]^2 + 2 weights[0] - weights[1]^2 - 2 weights[1]"
    ]


def spiral(w):
    return w[0] * jnp.array([jnp.cos(w[1]), jnp.sin(w[1])])


# The verdict, homogeneity and separability.
MAPS = {
    "Identity": (ddln.Identity(W), "yes", 1, True),
    "Square": (ddln.Square(W), "yes", 2, True),
    "Power": (ddln.Power(W, 3), "yes", 3, True),
    "PowerDifference": (ddln.PowerDifference(W, V, 3), "yes", 3, True),
    "DeepDiagonal": (ddln.DeepDiagonal(RNG.normal(size=(3, 3))), "yes", 3, True),
    "frozen": (ddln.DeepDiagonal([[0.0, 1, 2], [0, 2, 1]]), "on this submanifold", 2, True),
    "MatrixFactorization": (
        ddln.MatrixFactorization(RNG.normal(size=(2, 2)), RNG.normal(size=(2, 2))),
        "no", 2, False,
    ),
    "SymmetricFactorization": (ddln.SymmetricFactorization(np.eye(2)), "no", 2, False),
    "DeepMatrixFactorization": (linear_network(2, 2, 2, 2), "no", 3, False),
    "WeightNorm": (ddln.WeightNorm(1.5, V), "no", 1, False),
    "Composed": (ddln.Composed(ddln.Square, ddln.WeightNorm(1.5, V)), "no", 2, False),
    "LearningRates": (ddln.LearningRates(ddln.PowerDifference(W, V, 2), (0.1, 1.0)), "yes", 2, True),
    "gain": (ddln.FromFunction(lambda w: w[0] * jnp.exp(w[1]), np.stack([W, V])), "yes", None, True),
    "sine": (ddln.FromFunction(lambda w: jnp.sin(w), W), "yes", None, True),
    "rotated": (
        ddln.FromFunction(lambda w: jnp.array([[1.0, 1], [1, -1]]) @ w**2, W[:2]), "yes", 2, False,
    ),
    "spiral": (ddln.FromFunction(spiral, W[:2]), "no", None, False),
    "shared": (ddln.FromFunction(lambda w: w[:2] * w[2], W), "no", 2, False),
    "softmax": (ddln.FromFunction(lambda w: jnp.exp(w[:2]) * jnp.sum(w), W), "no", None, False),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_diagnose(name):
    parameterization, verdict, degree, separable = MAPS[name]
    found = theory.diagnose(parameterization)
    assert found.mirror_flow == verdict, found
    assert (found.homogeneity, found.separable) == (degree, separable)
    assert found.commuting.holds == (verdict != "no")
    assert found.conservation.clear
    closed = name in ("Identity", "Square", "Power", "PowerDifference", "DeepDiagonal", "frozen")
    assert found.potential == (
        "closed form" if closed else "numerical" if verdict == "yes" else "none"
    )
    for what, finding in found.rows():
        assert what != "conserved" or finding.endswith(" ...") == (len(finding) > 100)
    assert verdict in str(found)
    assert verdict in found._repr_html_()


def test_along_a_flow():
    start = ddln.MatrixFactorization(RNG.normal(size=(2, 2)), RNG.normal(size=(2, 2)))
    loss = ddln.LeastSquares(np.eye(4).reshape(4, 2, 2), RNG.normal(size=4))
    flow = ddln.gradient_flow(start, loss, 1.0, ts=[0.1, 1.0], rtol=1e-8)
    spectrum = theory.metric_spectrum(flow)
    left, right = np.asarray(flow.parameterization.left), np.asarray(flow.parameterization.right)
    for t in range(2):
        # M = I (x) V V^T + U U^T (x) I for theta in row-major order.
        metric = np.kron(np.eye(2), right[t] @ right[t].T) + np.kron(left[t] @ left[t].T, np.eye(2))
        np.testing.assert_allclose(spectrum[t], np.linalg.eigvalsh(metric), rtol=1e-9, atol=1e-12)
    for check in (theory.commutator, theory.integrability):
        residual = check(start, points=flow.parameterization)
        assert residual.lhs.shape == (2,)
        assert residual.where.all()
        # The same for networks of any size.
        smaller = check(start, points=jax.tree.map(lambda w: 1e-4 * w, flow.parameterization))
        np.testing.assert_allclose(smaller.lhs, residual.lhs, rtol=1e-9)


def test_a_mirror_flow_is_integrable():
    mixing = RNG.normal(size=(3, 3))
    check = theory.integrability(ddln.FromFunction(lambda w: mixing @ w**2, W), points=30)
    assert check.holds
    assert check.lhs.shape == (31,)


@pytest.mark.parametrize("check", [theory.commutator, theory.integrability, theory.regularity])
def test_the_weights_and_three_random_points_are_looked_at(check):
    assert jax.eval_shape(lambda w: check(ddln.Square(w)).lhs, W).shape == (4,)


def test_radii_of_random_points():
    """Half of a weight and a tenth of its leaf's size; of the whole size for a leaf of zeros."""

    def rms(array):
        return np.sqrt(np.mean(array**2))

    weights = {"a": W, "b": 3 * V, "c": np.zeros(2)}
    found = FlatMap(ddln.FromFunction(lambda w: w["a"], weights)).radii()
    whole = rms(np.concatenate([W, 3 * V, np.zeros(2)]))
    expected = [0.5 * W + 0.1 * rms(W), 1.5 * V + 0.3 * rms(V), np.full(2, 0.1 * whole)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-12)
    zeros = FlatMap(ddln.FromFunction(lambda w: w, np.zeros(3)))
    np.testing.assert_allclose(zeros.radii(), 0.1)


def test_legs_end_where_the_map_is_finite():
    """Close to the end of the domain the longer ones do not."""
    w = np.array([0.05, 1.0])
    flat_map = FlatMap(ddln.FromFunction(lambda w: jnp.stack([jnp.sqrt(w[0]), w[1]]), w))
    lengths = []
    for seed in range(8):
        end, _ = _finite_leg(flat_map, w, np.zeros((2, 0)), np.random.default_rng(seed))
        assert end[0] > 0
        lengths.append(np.linalg.norm(end - w))
    assert max(lengths) <= 0.3 * np.linalg.norm(w)
    assert min(lengths) <= 0.03 * np.linalg.norm(w)


class Wrong(ddln.AbstractParameterization):
    weights: jax.Array

    def effective(self):
        return self.weights**2

    @property
    def homogeneity(self):
        return 3


@pytest.mark.parametrize(
    ("parameterization", "message"),
    [
        (ddln.FromFunction(lambda w: w[w > 0.0], W), "do not depend on the values"),
        (ddln.FromFunction(lambda w: jnp.round(w), W), "`.weights` is zero here and nearby"),
        (ddln.FromFunction(lambda w: w["a"] + 0 * w["b"], {"a": W, "b": V}), r"`.weights\['b'\]`"),
        (
            ddln.FromFunction(lambda w: jnp.sqrt(w - 1.0), np.ones(2)),
            "`.weights` is not finite there",
        ),
        (
            Wrong(jnp.arange(3)),
            "`.weights` must be an array of floating-point weights, but it is int",
        ),
        (Wrong(jnp.array([1.0, jnp.nan])), "`.weights` must be finite"),
        (Wrong(jnp.ones(2)), "declares the homogeneity 3, but Euler's identity"),
    ],
)
def test_bad_maps(parameterization, message):
    with pytest.raises(ValueError, match=message):
        theory.diagnose(parameterization)


def test_bad_networks():
    with pytest.raises(
        ValueError, match=r"chain, but layers\[0\] .* \(2, 2\) and layers\[1\] .* \(2, 3\)"
    ):
        theory.path_products([np.ones((2, 2)), np.ones((2, 3))])
    with pytest.raises(ValueError, match=r"`biases\[0\]` must have one entry"):
        theory.path_products([np.ones((2, 2))], [np.ones(3)])
    with pytest.raises(ValueError, match="at most one vector"):
        theory.path_products([np.ones((2, 2))], [np.ones(2), np.ones(2)])


def test_path_products_are_those_of_the_network():
    matrices, biases = [RNG.normal(size=s) for s in ((3, 2), (1, 3))], [RNG.normal(size=3)]
    theta = np.asarray(theory.path_products(matrices, biases)())[0]
    x = RNG.normal(size=2)
    hidden = matrices[0] @ x + biases[0]
    active = hidden > 0
    features = np.concatenate([np.concatenate([a * x, [a]]) for a in active])
    expected = (matrices[1] @ np.maximum(hidden, 0))[0]
    np.testing.assert_allclose(theta @ features, expected, rtol=1e-12)
