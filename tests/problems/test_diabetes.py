"""The embedded diabetes data against values published elsewhere."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln.problems import _diabetes, diabetes

# The first six patients, as R prints head() of the public file diabetes.tab.txt.
HEAD = [
    [59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87, 151],
    [48, 1, 21.6, 87, 183, 103.2, 70, 3, 3.8918, 69, 75],
    [72, 2, 30.5, 93, 156, 93.6, 41, 4, 4.6728, 85, 141],
    [24, 1, 25.3, 84, 198, 131.4, 40, 5, 4.8903, 89, 206],
    [50, 1, 23.0, 101, 192, 125.4, 52, 4, 4.2905, 80, 135],
    [23, 1, 22.6, 89, 139, 64.8, 61, 2, 4.1897, 68, 97],
]

# Entries of the authors' quadratic design (hastie.su.domains/Papers/LARS/data64.txt), its columns
# scaled to unit length: column, its name there, patients 1, 2 and 442.
DATA64 = [
    (2, "bmi", 0.0616962, -0.0514741, -0.0730303),
    (10, "age.2", -0.0148552, -0.0412915, -0.003559),
    (11, "bmi.2", 0.0225046, 0.0056428, 0.0447617),
    (13, "tc.2", -0.0043311, -0.0309389, 0.0670719),
    (16, "tch.2", -0.0304485, -0.0094855, -0.0094855),
    (18, "glu.2", -0.0275256, 0.088022, -0.0317861),
    (19, "age.sex", 0.032865, -0.00661, 0.0350096),
    (20, "age.bmi", 0.0405717, -0.0067648, 0.0609948),
    (27, "age.glu", -0.0302775, -0.0113801, -0.0183737),
    (28, "sex.bmi", 0.062103, 0.0445182, 0.0649336),
    (49, "tc.ldl", -0.006869, -0.0262353, 0.0042172),
    (51, "tc.tch", -0.019303, -0.0155012, -0.078698),
    (57, "ldl.glu", -0.0009221, 0.0237834, -0.0122672),
    (62, "tch.glu", -0.0176582, 0.0530335, -0.0209368),
]
THERE = {"s1": "tc", "s2": "ldl", "s3": "hdl", "s4": "tch", "s5": "ltg", "s6": "glu", "bp": "map"}


@pytest.fixture(scope="module")
def raw():
    return diabetes(standardize=False)


@pytest.fixture(scope="module")
def standardized():
    return diabetes()


@pytest.fixture(scope="module")
def quadratic():
    return diabetes(quadratic=True)


def test_raw_values_are_the_published_ones(raw):
    assert raw.X.shape == (442, 10)
    assert raw.feature_names == ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    assert (raw.target_name, raw.name, raw.theta_true) == ("y", "diabetes", None)
    np.testing.assert_array_equal(np.column_stack([raw.X, raw.y])[:6], HEAD)


def test_raw_means_and_ranges(raw):
    """The output of R's summary() on the public file."""
    means = [48.52, 1.468, 26.38, 94.65, 189.1, 115.44, 49.79, 4.07]
    np.testing.assert_allclose(raw.X.mean(axis=0)[:8], means, rtol=3e-4)
    np.testing.assert_array_equal(raw.X.min(axis=0)[:8], [19, 1, 18, 62, 97, 41.6, 22, 2])
    np.testing.assert_array_equal(raw.X.max(axis=0)[:8], [79, 2, 42.2, 133, 301, 242.4, 99, 9.09])
    assert (float(raw.y.min()), float(raw.y.max())) == (25, 346)
    np.testing.assert_allclose(raw.y.mean(), 152.13, atol=0.005)


def test_standardized_columns(standardized, raw):
    np.testing.assert_allclose(standardized.X.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(jnp.linalg.norm(standardized.X, axis=0), 1, rtol=1e-14)
    np.testing.assert_allclose(standardized.y, raw.y - raw.y.mean(), atol=1e-12)
    assert standardized.feature_names == raw.feature_names
    # Extremes of the data frame `diabetes$x` of the R package lars.
    np.testing.assert_allclose(
        standardized.X.min(axis=0)[:4], [-0.107226, -0.04464, -0.090275, -0.1124], atol=2e-5
    )
    np.testing.assert_allclose(
        standardized.X.max(axis=0)[:4], [0.110727, 0.05068, 0.170555, 0.132044], atol=2e-5
    )


def test_known_regression_of_the_standardized_data(standardized):
    """The least squares coefficients, the start of the lasso path (at bmi), and sum |theta|."""
    theta = standardized.loss().minimizer
    known = [-10.0, -239.8, 519.8, 324.4, -792.2, 476.7, 101.0, 177.1, 751.3, 67.6]
    np.testing.assert_allclose(theta, known, atol=0.05)
    np.testing.assert_allclose(jnp.abs(theta).sum(), 3460, atol=0.5)
    correlations = jnp.abs(standardized.X.T @ standardized.y)
    assert standardized.feature_names[int(correlations.argmax())] == "bmi"
    np.testing.assert_allclose(correlations.max(), 949.435, atol=5e-4)


def test_quadratic_design_is_that_of_the_authors(quadratic):
    for column, name, *expected in DATA64:
        np.testing.assert_allclose(
            quadratic.X[jnp.asarray([0, 1, 441]), column], expected, atol=1e-7
        )
        ours = quadratic.feature_names[column]
        for here, there in THERE.items():
            ours = ours.replace(here, there)
        assert ours.replace(":", ".").replace("^", ".") == name


def test_quadratic_design_by_another_construction(quadratic, raw):
    """Every added column by name, from raw values with NumPy's z-scores."""
    X = np.asarray(raw.X)
    column = dict(zip(raw.feature_names, ((X - X.mean(0)) / X.std(0, ddof=1)).T, strict=True))
    assert quadratic.X.shape == (442, 64)
    pairs = [f"{a}:{b}" for a, b in combinations(raw.feature_names, 2)]
    squares = [f"{a}^2" for a in raw.feature_names if a != "sex"]
    assert (len(pairs), len(squares)) == (45, 9)
    assert quadratic.feature_names == (*raw.feature_names, *squares, *pairs)
    for index, name in enumerate(quadratic.feature_names):
        factors = name.split(":") if ":" in name else [name[:-2]] * 2 if "^2" in name else [name]
        product = np.prod([column[factor] for factor in factors], axis=0)
        z_score = (product - product.mean()) / product.std()
        np.testing.assert_allclose(quadratic.X[:, index], z_score / 442**0.5, atol=1e-14)
    np.testing.assert_array_equal(quadratic.y, diabetes().y)


def test_raw_quadratic_terms_are_products_of_raw_values(raw):
    problem = diabetes(quadratic=True, standardize=False)
    names = problem.feature_names
    np.testing.assert_array_equal(problem.X[:, :10], raw.X)
    np.testing.assert_array_equal(problem.X[:, names.index("bmi^2")], raw.X[:, 2] ** 2)
    np.testing.assert_array_equal(problem.X[:, names.index("sex:s6")], raw.X[:, 1] * raw.X[:, 9])
    np.testing.assert_array_equal(problem.y, raw.y)


def test_dtype(standardized):
    assert standardized.X.dtype == jnp.float64
    single = diabetes(dtype=jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(single.X, standardized.X.astype(jnp.float32))


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    original = _diabetes.FILE.read_bytes()
    copy = tmp_path / "diabetes.csv"
    monkeypatch.setattr(_diabetes, "FILE", copy)
    copy.write_bytes(original.replace(b"59,2,32.1", b"59,2,32.2", 1))
    with pytest.raises(RuntimeError, match=r"diabetes\.csv was changed.*SHA-256.*Reinstall"):
        diabetes()
    copy.write_bytes(original.replace(b"\n", b"\r\n"))
    assert diabetes().X.shape == (442, 10)
