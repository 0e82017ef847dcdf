from concurrent.futures import ThreadPoolExecutor

import pytest

from ddln.cli._output import prepare, resume


def sweep(folder):
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("")
    return folder


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
    with pytest.raises(ValueError, match="holds something else"):
        resume(file, None)
    assert file.read_text() == "x"


def test_overwriting_removes_all_that_a_sweep_wrote_and_nothing_else(tmp_path):
    out = sweep(tmp_path / "run")
    for name in ("results.zarr", "phase.png", "loss.pdf", "notes.txt"):
        (out / name).write_text("old")
    prepare(out, True)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_the_newest_sweep_is_resumed_and_no_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="There is no run to resume in ddln-results"):
        resume(None, None)
    assert list(tmp_path.iterdir()) == []
    report = tmp_path / "ddln-results" / "run-003"
    report.mkdir(parents=True)
    with pytest.raises(ValueError, match="There is no run to resume"):
        resume(None, None)
    sweep(tmp_path / "ddln-results" / "run-002")
    sweep(tmp_path / "ddln-results" / "run-001")
    (report / "report.html").write_text("")
    assert resume(None, None).name == "run-002"
    with pytest.raises(ValueError, match=r"holds something else: report\.html"):
        resume(report, None)
    assert [path.name for path in report.iterdir()] == ["report.html"]


def test_a_job_that_is_started_again_begins_where_there_is_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "new" / "folder"
    assert resume(out, None) == out
    # Killed before it wrote anything, or anything but the lock of its store.
    assert resume(out, None) == out
    (out / "results.zarr.lock").write_text("")
    assert resume(out, None) == out
    assert resume(None, "elsewhere.zarr").name == "run-001"


def test_runs_that_start_together_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: prepare(None, False), range(40)))
    assert sorted(folder.name for folder in folders) == [f"run-{n:03d}" for n in range(1, 41)]
