"""A run as a file: `run.toml`, `--config`, and the experiment of a run from its file."""

import dataclasses
import re
import tomllib

import pytest

from ddln.cli import main
from ddln.cli._options import SweepOptions
from ddln.cli._run_config import read_config, with_config, write_config


def test_the_file_says_what_determines_the_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / 'odd "name" é.csv'
    options = SweepOptions(
        data=data, target="price, $", drop=("a b",), encode=True, depths=(2, 5), scales=(1e-7, 0.5),
        t1=1e5, rtol=1e-12, observe=("ends",), out=tmp_path / "elsewhere", workers=3,
    )  # fmt: skip
    write_config(options, tmp_path)
    told = tomllib.loads((tmp_path / "run.toml").read_text())
    assert told["target"] == "price, $"
    assert told["scales"] == [1e-7, 0.5]
    assert not {"out", "workers", "train"} & set(told)
    # A command line that names the file gives the same options.
    seen = []
    monkeypatch.setattr("ddln.cli._sweep_command.run", seen.append)
    main(["sweep", "--config", "run.toml"])
    main(["sweep", "--config=run.toml", "--depths", "3", "--no-encode", "--workers", "2"])
    place = {"config": options.config, "out": None, "workers": None}
    config = seen[0].config
    assert seen[0] == dataclasses.replace(options, **(place | {"config": config}))
    assert (seen[1].depths, seen[1].encode, seen[1].workers) == ((3,), False, 2)
    assert seen[1].scales == (1e-7, 0.5)


def test_a_path_in_a_file_is_seen_from_there(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('data = "table.csv"\nscale-count = 3\n')
    assert read_config(file) == {"data": str(tmp_path / "table.csv"), "scale_count": 3}
    given = with_config(["sweep", "--config", str(file), "--seed", "1"])
    assert given[:3] == ["sweep", f"--data={tmp_path / 'table.csv'}", "--scale-count=3"]
    assert given[-2:] == ["--seed", "1"]
    assert with_config(["status", "--config", "x"]) == ["status", "--config", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth = 3", "has the key 'depth', which is no option of a sweep.*Did you mean 'depths'"),
        ("depths = [2", "is no TOML file"),
        ("depths = [1]", "--depths must be one or more different numbers"),
        ('observe = ["all"]', "--observe"),
    ],
)
def test_bad_files_are_told_before_any_work(tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "--config", "run.toml"])
    told = f"{stop.value.code} {capsys.readouterr().err}"
    assert re.search(message, told)
    with pytest.raises(SystemExit, match=r"nowhere\.toml"):
        main(["sweep", "--config", "nowhere.toml"])
