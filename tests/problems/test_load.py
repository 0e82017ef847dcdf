"""Files to problems, and every way in which a file can be wrong."""

import io
import sys
import zipfile
from decimal import Decimal

import jax.numpy as jnp
import numpy as np
import pandas
import pyarrow as pa
import pytest
from pyarrow import parquet

from ddln.problems import load

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(6, 4)) * [1, 100, 1e-3, 5] + [0, 3, 0, 40]
NAMES = ["a", "b b", "c", "t"]


def save(directory, ending):
    """The matrix as a file of each kind."""
    file = directory / f"numbers{ending}"
    match ending:
        case ".csv":
            lines = [",".join(NAMES), *(",".join(map(repr, row.tolist())) for row in MATRIX)]
            file.write_text("\n".join(lines) + "\n")
        case ".npy":
            np.save(file, MATRIX)
        case ".npz":
            np.savez(file, X=MATRIX[:, :-1], y=MATRIX[:, -1], more=np.arange(2))
        case ".parquet":
            parquet.write_table(pa.table(dict(zip(NAMES, MATRIX.T, strict=True))), file)
    return file


def write(directory, text, name="data.csv"):
    file = directory / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def array_bytes(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize("ending", [".csv", ".npy", ".npz", ".parquet"])
def test_every_format_gives_the_same_problem(tmp_path, ending):
    file = save(tmp_path, ending)
    problem = load(file)
    np.testing.assert_array_equal(problem.X, MATRIX[:, :3])
    np.testing.assert_array_equal(problem.y, MATRIX[:, 3])
    named = ending in (".csv", ".parquet")
    assert problem.feature_names == (("a", "b b", "c") if named else ("x0", "x1", "x2"))
    assert problem.target_name == {".npy": "x3", ".npz": "y"}.get(ending, "t")
    assert problem.name == "numbers"
    assert problem.theta_true is None
    assert load(str(file)).X.dtype == jnp.float64
    assert load(file, dtype=jnp.float32).y.dtype == jnp.float32


@pytest.mark.parametrize("ending", [".csv", ".npy", ".npz", ".parquet"])
def test_standardize_and_center(tmp_path, ending):
    file = save(tmp_path, ending)
    X = MATRIX[:, :3]
    unit = (X - X.mean(axis=0)) / (X.std(axis=0) * 6**0.5)
    columns = load(file, standardize=True)
    np.testing.assert_allclose(columns.X, unit, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(columns.y, MATRIX[:, 3])
    both = load(file, standardize=True, center=True)
    np.testing.assert_array_equal(both.X, columns.X)
    np.testing.assert_allclose(both.y, MATRIX[:, 3] - MATRIX[:, 3].mean(), atol=1e-14)
    np.testing.assert_array_equal(load(file, center=True).X, MATRIX[:, :3])


@pytest.mark.parametrize(
    ("ending", "target", "column"),
    [
        (".csv", "b b", 1),
        (".csv", 0, 0),
        (".csv", -2, 2),
        (".parquet", "a", 0),
        (".npy", 1, 1),
        (".npy", "x2", 2),
    ],
)
def test_target(tmp_path, ending, target, column):
    problem = load(save(tmp_path, ending), target=target)
    np.testing.assert_array_equal(problem.y, MATRIX[:, column])
    np.testing.assert_array_equal(problem.X, np.delete(MATRIX, column, axis=1))
    assert problem.target_name not in problem.feature_names


def test_a_name_of_digits_comes_before_a_position(tmp_path):
    file = write(tmp_path, "2020,y,0\n1,2,3\n4,5,6\n")
    np.testing.assert_array_equal(load(file, target="2020").y, [1, 4])
    np.testing.assert_array_equal(load(file, target="0").y, [3, 6])
    np.testing.assert_array_equal(load(file, target="1").y, [2, 5])
    np.testing.assert_array_equal(load(file, target="-2").y, [2, 5])
    np.testing.assert_array_equal(load(file, target=0).y, [1, 4])
    with pytest.raises(ValueError, match="must be from -3 to 2"):
        load(file, target="2019")


@pytest.mark.parametrize("ending", [".csv", ".npy", ".npz", ".parquet"])
def test_columns_that_are_dropped(tmp_path, ending):
    file = save(tmp_path, ending)
    first = "a" if ending in (".csv", ".parquet") else "x0"
    problem = load(file, drop=[first])
    np.testing.assert_array_equal(problem.X, MATRIX[:, 1:3])
    np.testing.assert_array_equal(problem.y, MATRIX[:, 3])
    with pytest.raises(ValueError, match=f"`drop` must name columns of {file}, .* names 'no'"):
        load(file, drop=["no"])


def test_dropped_columns_may_hold_anything(tmp_path):
    file = write(tmp_path, "date,a,y\n2020-01-01,1,2\n,3,4\n")
    np.testing.assert_array_equal(load(file, drop=["date"]).X, [[1], [3]])
    parquet.write_table(pa.table({"s": ["x"], "a": [1], "y": [2]}), tmp_path / "t.parquet")
    np.testing.assert_array_equal(load(tmp_path / "t.parquet", drop=["s"]).X, [[1]])
    np.savez(tmp_path / "t.npz", X=MATRIX, y=MATRIX[:, 0])
    with pytest.raises(ValueError, match="must be a column"):
        load(tmp_path / "t.npz", drop=["y"])


def test_the_index_of_a_frame_is_no_column(tmp_path):
    frame = pandas.DataFrame({"a": [1.0, -2, 3], "b": [4.0, 5, 6]})
    file = tmp_path / "frame.parquet"
    named = frame.set_index(pandas.Index([7, 8, 9], name="id"))
    for rows, expected in ((frame, [4, 5, 6]), (frame[frame.a > 0], [4, 6]), (named, [4, 5, 6])):
        rows.to_parquet(file)
        problem = load(file)
        assert (problem.feature_names, problem.target_name) == (("a",), "b")
        np.testing.assert_array_equal(problem.y, expected)


def test_a_folder_of_parquet_files(tmp_path):
    folder = tmp_path / "table.parquet"
    frame = pandas.DataFrame({"part": [2, 1, 2], "a": [1.0, 2, 3], "y": [4.0, 5, 6]})
    frame.to_parquet(folder, partition_cols=["part"])
    problem = load(folder, target="y")
    assert problem.feature_names == ("a", "part")
    np.testing.assert_array_equal(problem.X, [[2, 1], [1, 2], [3, 2]])
    np.testing.assert_array_equal(problem.y, [5, 4, 6])


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path, ".npy")
    assert load("~/numbers.npy").X.shape == (6, 3)


def test_booleans_in_csv(tmp_path):
    file = write(tmp_path, "a,b,y\nTrue,FALSE,1\nfalse, true ,2\n")
    np.testing.assert_array_equal(load(file).X, [[1, 0], [0, 1]])


def test_all_cells_without_a_number_are_reported_at_once(tmp_path):
    file = write(tmp_path, "a,my date,c,y\n,2020,1,1\nx,2020-02-02,2,2\ny,,3,3\n1,1,,1\n")
    with pytest.raises(ValueError, match=f"but {file}, line 2, column `a` is ''") as error:
        load(file)
    text = str(error.value)
    assert "`a`: 3, 1 of them empty, 'x' in line 3" in text
    assert "`my date`: 2, 1 of them empty, '2020-02-02' in line 3" in text
    assert "`c`: 1, all empty, in line 5" in text
    assert "--drop a 'my date' c" in text


def test_standardization_of_extreme_magnitudes(tmp_path):
    """Squares of these overflow or vanish in float64; standardization has no scale."""
    text = "big,small,y\n1e300,1e-300,0\n-1e300,-1e-300,1\n1.7e308,3e-300,2\n"
    problem = load(write(tmp_path, text), standardize=True, dtype="float32")
    np.testing.assert_allclose(jnp.linalg.norm(problem.X, axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(problem.X.sum(axis=0), 0, atol=1e-6)


def test_csv_as_spreadsheets_write_it(tmp_path):
    text = '\ufeff"age, years" , y\r\n1.5,-2e3\r\n\r\n"7",0\r\n\r\n'
    problem = load(write(tmp_path, text))
    assert problem.feature_names == ("age, years",)
    assert problem.target_name == "y"
    np.testing.assert_array_equal(problem.X, [[1.5], [7]])
    np.testing.assert_array_equal(problem.y, [-2000, 0])


@pytest.mark.parametrize(
    "text",
    [
        "# source: a site, of 2020\n# units: m\na,b,y\n1,,2\n",
        "# source\n\n# a,b,y\n1,,2\n",  # as numpy.savetxt writes names
        "# of three words\na b y\n1 nan 2\n",
        "# a b y\n1 nan 2\n",
    ],
)
def test_notes_before_the_names(tmp_path, text):
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(ValueError, match=f"line {text.count(chr(10))}, column `b`"):
        load(tmp_path / "data.csv")
    problem = load(tmp_path / "data.csv", drop=["b"])
    assert (problem.feature_names, problem.target_name) == (("a",), "y")
    np.testing.assert_array_equal(problem.X, [[1.0]])


def test_a_name_that_begins_as_a_note(tmp_path):
    (tmp_path / "data.csv").write_text("#rooms,y\n3,1\n4,2\n")
    assert load(tmp_path / "data.csv").feature_names == ("#rooms",)


def test_integers_and_booleans_are_numbers(tmp_path):
    file = tmp_path / "mixed.parquet"
    columns = {
        "i": pa.array([1, 2**40]),
        "b": pa.array([True, False]),
        "f": pa.array([0.5, 2.0], pa.float32()),
        "d": pa.array([Decimal("1.25"), Decimal("-3")]),
    }
    parquet.write_table(pa.table(columns), file)
    problem = load(file)
    np.testing.assert_array_equal(problem.X, [[1, 1, 0.5], [2.0**40, 0, 2]])
    np.testing.assert_array_equal(problem.y, [1.25, -3])
    np.savez(tmp_path / "i.npz", X=np.asarray([[1, 2]], "int8"), y=[True])
    np.testing.assert_array_equal(load(tmp_path / "i.npz").X, [[1, 2]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must start with a line of column names, but {file} is empty"),
        ("\n\n", "but {file} is empty"),
        ("a,b\n", "must have at least one row of numbers, but {file} has none"),
        ("1,2\n3,4\n", "but {file}, line 1, holds only numbers"),
        ("2,2,red\n.1,.2,0\n.3,.4,1\n", "but {file}, line 1, counts rows and columns. Put the"),
        ("a,,y\n1,2,3\n", "must name every column, but {file}, line 1, column 2 has no name"),
        ("a,b,a\n1,2,3\n", "distinct column names, but in {file} columns 1 and 3 are both `a`"),
        ("a:y\n1:2\n", "at least two columns, .* {file} has only `a:y`. In CSV, commas"),
        (
            "a,b,y\n1,2,3\n\n4,5\n",
            "3 cells in every row, but {file}, line 4, ends before column `y`",
        ),
        ("a,y\n1,2\n3,4,5\n", "2 cells in every row, but {file}, line 3, goes on after column `y`"),
        ("a,y\n1,2\nx3,4\n", "must hold numbers, but {file}, line 3, column `a` is 'x3'"),
        ("a,y\n1,\n", "must hold numbers, but {file}, line 2, column `y` is ''"),
        ("a,y\n1,2\n1_0,4\n", "must hold numbers, but {file}, line 3, column `a` is '1_0'"),
        ("a,y\n1,2\n\n3,nan\n", "finite numbers, but {file}, line 4, column `y` is nan. Remove"),
        ("a,y\n-inf,2\n", "finite numbers, but {file}, line 2, column `a` is -inf"),
        ("a,y\n1e999,2\n", "finite numbers, but {file}, line 2, column `a` is inf"),
        ('a,"y\nz"\n1,2\n3,q\n', "must hold numbers, but {file}, line 4"),
        (b"a,y\n1,\xff\n", "must be comma-separated text in UTF-8, but {file} is not"),
        (
            "a,y\n1," + "9" * 140_000,
            "must be comma-separated text in UTF-8, but {file} is not: field",
        ),
    ],
)
def test_csv_errors(tmp_path, text, message):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=message.format(file=file)):
        load(file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"target": "z"},
            "`target` must be a column of {file}, but it is 'z'; the columns are a, c, y",
        ),
        ({"target": 3}, "`target` must be from -3 to 2, since {file} has 3 columns, but it is 3"),
        ({"target": -4}, "`target` must be from -3 to 2"),
        (
            {"standardize": True},
            "`standardize` must be False if a column is constant, but {file}, column `c`, is 0.1",
        ),
        ({"dtype": "float32"}, "float32 cannot hold {file}, line 3, column `a`, which is 1e\\+60"),
        (
            {"dtype": "float32", "target": "a"},
            "float32 cannot hold {file}, line 3, column `a`, which is 1e\\+60",
        ),
        ({"dtype": "int32"}, "`dtype` must be a floating dtype, but it is int32"),
    ],
)
def test_argument_errors(tmp_path, arguments, message):
    file = write(tmp_path, "a,c,y\n1,0.1,3\n1e60,0.1,4\n2,0.1,5\n")
    with pytest.raises(ValueError, match=message.format(file=file)):
        load(file, **arguments)


def test_constant_target_is_no_obstacle_to_standardizing(tmp_path):
    problem = load(write(tmp_path, "a,y\n1,2\n3,2\n"), standardize=True, center=True)
    np.testing.assert_array_equal(problem.y, 0)


def test_centering_that_overflows(tmp_path):
    file = write(tmp_path, "a,y\n1,1.7e308\n3,1.7e308\n")
    with pytest.raises(ValueError, match=r"float64 cannot hold .*line 2, column `y`"):
        load(file, center=True)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), "must hold a matrix there, but {file} has shape \\(3,\\)"),
        (np.ones((2, 2, 2)), "must hold a matrix there, but {file} has shape \\(2, 2, 2\\)"),
        (np.ones((2, 2)) * 1j, "must hold real numbers, but {file} has dtype complex128"),
        (np.asarray([["a", "b"]]), "must hold real numbers, but {file} has dtype <U1"),
        (np.ones((0, 2)), "must have at least one row of numbers, but {file} has none"),
        (np.ones((2, 1)), "must have at least two columns, .* {file} has only `x0`"),
        (np.asarray([[1, 2], [3, np.nan]]), "but {file}, row 2, column `x1` is nan"),
    ],
)
def test_npy_errors(tmp_path, array, message):
    file = write(tmp_path, array_bytes(array), "data.npy")
    with pytest.raises(ValueError, match=message.format(file=file)):
        load(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,y\n1,2\n",
        array_bytes(MATRIX)[:-9],
        array_bytes(MATRIX)[:20],
        array_bytes(np.asarray([[{"an": "object"}]]), allow_pickle=True),
    ],
    ids=["empty", "text", "truncated", "truncated header", "pickle"],
)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_damaged_numpy_files(tmp_path, content, ending):
    if ending == ".npz" and content:
        with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
            archive.writestr("X.npy", content)
        file = tmp_path / "data.npz"
    else:
        file = write(tmp_path, content, f"data{ending}")
    with pytest.raises(ValueError, match=f"must be an intact NumPy file of numbers, but {file} is"):
        load(file)


def test_corrupted_archive(tmp_path):
    file = save(tmp_path, ".npz")
    content = bytearray(file.read_bytes())
    content[200] ^= 255
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"must be an intact NumPy file of numbers, but {file} is"):
        load(file)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": MATRIX}, "must hold arrays X and y, but {file} has no y"),
        ({"x": MATRIX}, "must hold arrays X and y, but {file} has no X and no y"),
        (
            {"X": MATRIX, "y": np.ones(5)},
            "as many rows in X as in y, but in {file} X ends after row 6 and y after row 5",
        ),
        ({"X": np.ones(3), "y": np.ones(3)}, "{file}, array X, has shape \\(3,\\)"),
        (
            {"X": MATRIX, "y": np.ones((6, 1))},
            "must hold a vector there, but {file}, array y, has shape \\(6, 1\\)",
        ),
        (
            {"X": MATRIX, "y": np.asarray(["?"] * 6)},
            "must hold real numbers, but {file}, array y, has dtype <U1",
        ),
        (
            {"X": MATRIX, "y": np.asarray([0, 0, np.inf, 0, 0, 0])},
            "must hold finite numbers, but {file}, row 3, column `y` is inf",
        ),
        ({"X": np.ones((3, 0)), "y": np.ones(3)}, "at least two columns"),
    ],
)
def test_npz_errors(tmp_path, arrays, message):
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=message.format(file=file)):
        load(file)


def test_npz_has_its_own_target(tmp_path):
    with pytest.raises(ValueError, match=r"`target` must be left out for NPZ files, .* it is 'X'"):
        load(save(tmp_path, ".npz"), target="X")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, None, 3.0], "y": [1, 2, 3]}, "{file}, row 2, column `a` is nan"),
        ({"a": [1, 2, None], "y": [1, 2, 3]}, "{file}, row 3, column `a` is nan"),
        ({"a": [True, None, False], "y": [1, 2, 3]}, "{file}, row 2, column `a` is nan"),
        (
            {"a": ["1", "2"], "y": [1, 2]},
            "hold numbers, but {file}, column `a` has texts such as '1'",
        ),
        ({"a": [1.0, 2.0]}, "at least two columns, .* {file} has only `a`"),
        ({"a": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}, "{file} has none"),
    ],
)
def test_parquet_errors(tmp_path, columns, message):
    file = tmp_path / "data.parquet"
    parquet.write_table(pa.table(columns), file)
    with pytest.raises(ValueError, match=message.format(file=file)):
        load(file)


def test_parquet_with_repeated_names(tmp_path):
    file = tmp_path / "data.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array([1.0])] * 2, names=["a", "a"]), file)
    with pytest.raises(ValueError, match=f"in {file} columns 1 and 2 are both `a`"):
        load(file)


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing PAR1", b"a,y\n1,2\n"])
def test_damaged_parquet(tmp_path, content):
    file = write(tmp_path, content, "data.parquet")
    with pytest.raises(ValueError, match=f"must be an intact Parquet file, but {file} cannot be"):
        load(file)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    file = save(tmp_path, ".parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow.*pip install 'ddln\[data\]'"):
        load(file)


def test_missing_file_and_unknown_ending(tmp_path):
    missing = tmp_path / "absent.csv"
    with pytest.raises(FileNotFoundError, match=f"must be an existing file, but {missing} is not"):
        load(missing)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder\.csv is not one"):
        load(tmp_path / "folder.csv")
    with pytest.raises(
        ValueError, match=r"end in one of \.csv, \.csv\.gz, .*\.parquet, \.tsv, but it is"
    ):
        load(tmp_path / "data.txt")
