"""The script for QuPath: it cannot be run here, so what it asks of fewcell, and what it reads, is tried without it."""

import json
import re
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from fewcell import cli
from fewcell.errors import WriteError
from fewcell.handover import write_qupath_script

SCRIPT = files("fewcell.handover").joinpath("qupath.groovy").read_text(encoding="utf-8")


def test_what_the_script_asks_gives_the_file_that_it_reads(draw_discs, tmp_path, monkeypatch) -> None:
    command = re.search(r"def command = \[fewcell, (.*)\] \+ options", SCRIPT)[1]
    labels = re.search(r"def labels = folder\.resolve\('(.*)'\)", SCRIPT)[1]
    cells = re.search(r"importObjectsFromFile\(folder\.resolve\('(.*)'\)", SCRIPT)[1]
    (flag,) = re.findall(r"options \+= \['(.*?)', calibration\.", SCRIPT)
    PillowImage.fromarray(draw_discs(0)[0]).save(tmp_path / "an image.png")
    known = {"image.toString()": str(tmp_path / "an image.png"), "labels.toString()": str(tmp_path / labels)}
    arguments = [known.get(word) or word.strip("'") for word in command.split(", ")]
    monkeypatch.setattr(sys, "argv", ["fewcell", *arguments, flag, "0.5", "--diameter", "11um"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    features = json.loads((tmp_path / cells).read_text(encoding="utf-8"))["features"]
    assert len(features) > 5
    properties = features[0]["properties"]
    assert properties["objectType"] == "detection"
    assert 0 < properties["measurements"]["Score"] <= 1
    assert properties["measurements"]["Area um^2"] == properties["measurements"]["Area px"] / 4


def test_the_script_knows_where_this_fewcell_is(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    for name in ("fewcell", "python"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    write_qupath_script(tmp_path / "new" / "fewcell.groovy")
    written = (tmp_path / "new" / "fewcell.groovy").read_text(encoding="utf-8")
    quoted = str(folder / "fewcell").replace("\\", "\\\\").replace("'", "\\'")
    assert written == SCRIPT.replace("def fewcell = 'fewcell'", f"def fewcell = '{quoted}'") != SCRIPT
    with pytest.raises(WriteError, match="exists already"):
        write_qupath_script(tmp_path / "new" / "fewcell.groovy")


def test_the_command_says_what_to_do_with_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fewcell", "qupath"])
    with pytest.raises(SystemExit):
        cli.main()
    assert Path("fewcell.groovy").is_file()
    assert "script editor" in capsys.readouterr().out
