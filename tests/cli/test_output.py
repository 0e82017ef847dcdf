import pytest

from ddln.cli._output import prepare


def test_runs_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [prepare(None, False).name for _ in range(3)] == ["run-001", "run-002", "run-003"]


def test_a_file_is_not_a_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ValueError, match="is not empty"):
        prepare(file, False)
    with pytest.raises(ValueError, match="leaves it alone"):
        prepare(file, True)
    assert file.read_text() == "x"
