"""Data as people have them: tables of other programs, frames, bunches, texts, dates and gaps.

The subjects are `_frame`, `_table`, `_standardize` and the forms of `_csv` and `_parquet`.
"""

import gzip
import json

import numpy as np
import pandas
import pytest
import xarray

from ddln.problems import Problem, load

FRAME = pandas.DataFrame(
    {
        "size": [1.0, 2.0, 4.0, 3.0],
        "town": ["Ulm", "Bonn", "Ulm", "Köln"],
        "new": [True, False, True, True],
        "sold": pandas.to_datetime(["2020-01-01", "2020-01-02", "2020-01-04", "2020-01-03"]),
        "price": [10.0, 20.0, 40.0, 35.0],
    }
)
ENCODED = {
    "size": [1, 2, 4, 3],
    "town=Bonn": [0, 1, 0, 0],
    "town=Köln": [0, 0, 0, 1],
    "town=Ulm": [1, 0, 1, 0],
    "new": [1, 0, 1, 1],
    "sold": [18262, 18263, 18265, 18264],
}


def assert_encoded(problem):
    assert problem.feature_names == tuple(ENCODED)
    np.testing.assert_array_equal(problem.X, np.transpose(list(ENCODED.values())))
    np.testing.assert_array_equal(problem.y, FRAME["price"])
    assert problem.target_name == "price"


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


class Bunch(dict):
    """As scikit-learn returns it."""

    __getattr__ = dict.__getitem__


class Polars:
    """The part of a polars frame that is read: names, types, and columns that become arrays."""

    def __init__(self, frame):
        self._frame = frame
        self.columns = list(frame.columns)
        self.dtypes = list(frame.dtypes)

    def __getitem__(self, name):
        return self._frame[name].to_numpy()


@pytest.mark.parametrize(
    "form", ["frame", "index", "category", "polars", "xarray", "dict", "csv", "parquet", "feather"]
)
def test_every_form_of_a_table_gives_the_same_problem(tmp_path, form):
    made = {
        "frame": lambda: FRAME,
        "index": lambda: FRAME.set_index(pandas.Index([7, 3, 5, 9], name="id")),
        "category": lambda: FRAME.astype({"town": "category"}),
        "polars": lambda: Polars(FRAME),
        "xarray": lambda: xarray.Dataset({k: ("row", FRAME[k].to_numpy()) for k in FRAME}),
        "dict": lambda: (
            {name: FRAME[name].tolist() for name in ("size", "town", "new")}
            | {"sold": FRAME["sold"].to_numpy(), "price": FRAME["price"].tolist()}
        ),
        "csv": lambda: FRAME.to_csv(tmp_path / "t.csv", index=False) or tmp_path / "t.csv",
        "parquet": lambda: FRAME.to_parquet(tmp_path / "t.parquet") or tmp_path / "t.parquet",
        "feather": lambda: FRAME.to_feather(tmp_path / "t.feather") or tmp_path / "t.feather",
    }
    assert_encoded(load(made[form](), encode=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("semicolons.csv", "a;b;y\n1,5;-2,25e1;3\n2;0;4\n"),
        ("tabs.tsv", "a\tb\ty\n1.5\t-22.5\t3\n2\t0\t4\n"),
        ("bars.csv", "a|b|y\n1,5|-22,5|3\n2|0|4\n"),
        ("quotes.csv", '"a","b","y"\n"1.5","-22.5","3"\n"2","0","4"\n'),
        ("mark.csv", "\ufeffa;b;y\r\n1,5;-22,5;3\r\n2;0;4\r\n"),
        ("spaces.csv", "  'a'  'b' 'y'\n 1.5 -22.5   3\n   2   0 4 \n"),
        ("index.csv", ",a,b,y\n0,1.5,-22.5,3\n1,2,0,4\n"),
        ("r.csv", '"","a","b","y"\n"1",1.5,-22.5,3\n"2",2,0,4\n'),
        ("row names.csv", '"a" "b" "y"\n"one" 1.5 -22.5 3\n"two" 2 0 4\n'),
        ("row numbers.csv", '"a","b","y"\n"1",1.5,-22.5,3\n"2",2,0,4\n'),
    ],
)
def test_csv_of_other_programs(tmp_path, name, text):
    for problem in (
        load(write(tmp_path / name, text)),
        load(_compressed(tmp_path / f"{name.split('.')[0]}.csv.gz", text)),
    ):
        assert problem.feature_names == ("a", "b")
        assert problem.name == name.split(".")[0]
        np.testing.assert_array_equal(problem.X, [[1.5, -22.5], [2, 0]])
        np.testing.assert_array_equal(problem.y, [3, 4])


def _compressed(path, text):
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("a;y\n1.234,5;3\n", r"line 2, column `a` is '1.234,5'"),
        ("id,a,y\nx,1,3\n", r"line 2, column `id` is 'x'.*encode=True.*--drop id"),
        (",a,y\n5,1,3\n9,2,4\n", "column 1 has no name"),
        ("a,y\nNA,3\n", r"column `a` is 'NA'.*missing='drop'"),
        ("a,y\n1,3,\n2,4,\n", "line 2, goes on after column `y`"),
        ("a,y\n5,1,3\n7,2,4\n", "line 2, goes on after column `y`"),
    ],
)
def test_cells_that_are_refused(tmp_path, cells, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(write(tmp_path / "t.csv", cells))


@pytest.mark.parametrize(
    "texts",
    [
        ("2000-01-31", "1970-01-02"),
        ("2000/1/31", "1970/1/2"),
        ("2000/01/31 00:00", "1970/01/02 00:00:00"),
        ("Jan 31 2000", "Jan 2 1970"),
        ("January 31, 2000", "January 2, 1970"),
        ("31-Jan-2000", "2-Jan-1970"),
    ],
)
def test_dates_become_days(texts):
    problem = load({"date": [*texts, None], "y": [1, 2, 3]}, encode=True, missing="drop")
    assert problem.feature_names == ("date",)
    np.testing.assert_array_equal(problem.X[:, 0], [10987, 1])


def test_dates_whose_day_and_month_could_be_exchanged_are_texts():
    texts = [f"1/{day}/2000" for day in range(1, 32)] + [f"2/{day}/2000" for day in range(1, 29)]
    with pytest.raises(
        ValueError, match=r"59 different ones, such as '1/1/2000'(.|\n)*as 2000-01-31"
    ):
        load({"date": texts, "y": range(59)}, encode=True)


GAPS = "a,town,y\n1,x,1\n,x,2\n5,NA,3\n3,z,?\n 6 ,z,5\n"


def test_missing_values(tmp_path):
    file = write(tmp_path / "gaps.csv", GAPS)
    with pytest.raises(ValueError, match=r"`a`: 1, all empty"):
        load(file)
    dropped = load(file, missing="drop", encode=True)
    np.testing.assert_array_equal(dropped.X, [[1, 1, 0], [6, 0, 1]])
    np.testing.assert_array_equal(dropped.standardization.rows, [0, 4])
    filled = load(file, missing="mean", encode=True)
    # Means over the rows that have a target.
    np.testing.assert_allclose(
        filled.X, [[1, 1, 0], [4, 1, 0], [5, 2 / 3, 1 / 3], [6, 0, 1]], rtol=1e-15
    )
    np.testing.assert_array_equal(filled.y, [1, 2, 3, 5])
    np.testing.assert_array_equal(filled.standardization.rows, [0, 1, 2, 4])
    frame = pandas.read_csv(file, na_values="?", skipinitialspace=True)
    np.testing.assert_array_equal(load(frame, missing="drop", encode=True).X, dropped.X)
    np.testing.assert_array_equal(
        load(frame.convert_dtypes(), missing="drop", encode=True).X, dropped.X
    )


def test_two_texts_as_a_target_are_labels():
    problem = load({"a": [1, 2, 3], "class": ["no", "yes", "no"]}, encode=True)
    np.testing.assert_array_equal(problem.y, [-1, 1, -1])
    assert problem.target_name == "class=yes"
    with pytest.raises(ValueError, match="`class` has 3 texts"):
        load({"a": [1, 2, 3], "class": ["no", "yes", "maybe"]}, encode=True)


def test_bunches_and_arrays():
    X, y = np.arange(6.0).reshape(3, 2), np.array([1, 2, 4])
    named = load(Bunch(data=X, target=y, feature_names=["p", "q"], DESCR="..."))
    assert (named.feature_names, named.target_name) == (("p", "q"), "target")
    framed = load(Bunch(data=pandas.DataFrame(X, columns=["p", "q"]), target=pandas.Series(y)))
    assert framed.feature_names == ("p", "q")
    for problem in (named, framed, load((X, y)), load((X, y[:, None])), load(np.c_[X, y])):
        np.testing.assert_array_equal(problem.X, X)
        np.testing.assert_array_equal(problem.y, y)
    assert isinstance(load((X.tolist(), y.tolist())), Problem)


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (3, {}, "must be a path, a frame, .* but it is a int"),
        (None, {}, "but it is a NoneType"),
        (np.zeros(3), {}, r"but it is a ndarray of shape \(3,\)"),
        (np.zeros((2, 2), complex), {}, "must be a path, a frame"),
        ((np.zeros((3, 2)), np.zeros(2)), {}, r"each of the 3 rows of X, but y has shape \(2,\)"),
        ((np.zeros((3, 2)), np.zeros(3)), {"target": "x0"}, "`target` must be left out"),
        ({"a": [1, 2], "y": [1]}, {}, r"columns of one length, .* \[2, 1\]"),
        ({"a": [1j], "y": [1]}, {}, "column `a` has dtype complex128"),
        ({"a": [[1], [2]], "y": [1, 2]}, {"encode": True}, "column `a` must be of one axis"),
        ({"a": ["x", "y"], "y": [1, 2]}, {}, "column `a` has texts such as 'x'"),
        ({"a": [1, 2], "y": [1, 2]}, {"missing": "fill"}, "`missing` must be one of"),
        ({"a": [None, None], "y": [1, 2]}, {"missing": "mean"}, "column `a`, is"),
        ({"a": [None, None], "y": [1, 2]}, {"missing": "drop"}, "at least one row"),
        ({"a": [*"abcdefghij" * 6, "k"], "y": [1] * 61}, {"target": "a"}, "hold numbers"),
        ({"a": [f"n{i}" for i in range(60)], "y": [1] * 60}, {"encode": True}, "60 different"),
        (xarray.Dataset({"a": (("i", "j"), np.zeros((2, 2)))}), {}, "of one dimension"),
        (FRAME, {"drop": ["nowhere"]}, "`drop` must name columns of the DataFrame"),
        (FRAME, {"target": "nowhere"}, "`target` must be a column of the DataFrame"),
        (FRAME, {}, r"the DataFrame, column `town` has texts"),
        ({"a": [1, 1], "b": [2, 2], "y": [1, 2]}, {"standardize": True}, "and so are b"),
    ],
    ids=str,
)  # fmt: skip
def test_data_that_are_refused(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(data, **arguments)


def test_coefficients_and_predictions_in_the_units_of_the_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3)) * [1, 1e-3, 5] + [1.7e9, 0, 40]
    y = 7 + X @ [0.5, 2e3, -1]
    problem = load((X, y), standardize=True, center=True)
    theta = np.linalg.lstsq(np.asarray(problem.X), np.asarray(problem.y), rcond=None)[0]
    units = problem.standardization
    coefficient, intercept = units.coefficients(theta)
    # Rounding of x, 2e-7 at 1.7e9, over its variation.
    np.testing.assert_allclose(coefficient, [0.5, 2e3, -1], rtol=1e-6)
    new = rng.normal(size=(4, 3)) + np.array([1.7e9, 0, 40])
    expected = 7 + new @ [0.5, 2e3, -1]
    np.testing.assert_allclose(units.predict(theta, new), expected, atol=1e-5)
    np.testing.assert_allclose(intercept + new @ coefficient, expected, rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm((X - units.feature_mean) / units.feature_norm), 3**0.5
    )
    assert units.predict(np.stack([theta, 0 * theta]), new).shape == (2, 4)


def test_times_and_prices_keep_their_variation_in_float32():
    seconds = 1.7e9 + np.arange(50.0)
    data = {"time": seconds, "y": np.arange(50)}
    with pytest.raises(ValueError, match=r"float32 cannot tell .* column `time`, apart"):
        load(data, dtype="float32")
    problem = load(data, dtype="float32", standardize=True)
    expected = (np.arange(50) - 24.5) / np.linalg.norm(np.arange(50) - 24.5)
    np.testing.assert_allclose(problem.X[:, 0], expected, atol=1e-7)


def test_the_problem_is_a_tree_of_its_arrays(tmp_path):
    import jax

    problem = load(FRAME[["size", "price"]], standardize=True)
    assert len(jax.tree.leaves(problem)) == 2
    assert json.dumps(problem.standardization.rows.tolist()) == "[0, 1, 2, 3]"
