"""The how-tos do what they say: their blocks are run in order, in a folder of their own, with this environment.

What a reader does in minutes is done in seconds: a comment before a block says what is put in the place of what, as in
<!-- test: --minutes 8 -> --steps 2 -->, and <!-- file: plan.toml --> the name under which a reader saves it.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from fewcell.metrics import f1, match
from fewcell.segmenter import Segmenter

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"((?:^<!-- .*? -->\n)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What each how-to leaves behind: if it does not, the page has lied.
LEFT = {
    "segment-a-folder": [
        "cells/cell_overlay.png",
        "cells/ihc_cells.csv",
        "cells/seconds.csv",
        "for-others/cell_rois.zip",
    ],
    "slide-into-qupath": ["slide_cells.geojson", "slide_overlay.png", "slide_label.zarr/zarr.json", "fewcell.groovy"],
    "teach-with-five-images": [
        "runs/mine/model/model.json",
        "found/0_label.tiff",
        "found-before/1_overlay.png",
        "my-cells.zip",
    ],
    "compare-methods": ["comparison/rows.csv", "comparison.html", "comparison.md", "theirs.csv"],
    "use-a-cluster": ["shards_cells.geojson", "shards_label.zarr/zarr.json", "dask_label.zarr/zarr.json"],
}


class Block(NamedTuple):
    """A block of a page: its language, its text as it is run, and the file that it is saved as."""

    language: str
    text: str
    file: str | None


def blocks_of(page: str) -> list[Block]:
    found = []
    for comments, language, text in BLOCK.findall(page):
        file = re.search(r"<!-- file: (\S+) -->", comments)
        for old, new in re.findall(r"<!-- test: (.*?) -> (.*?) -->", comments):
            assert old in text, f"{old!r} is to be replaced, but the block has it no more"
            text = text.replace(old, new.replace(r" \n ", "\n").replace("FREE_PORT", str(free_port())))
        found.append(Block(language, text, file[1] if file else None))
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(block: Block, folder: Path) -> None:
    """Run a block as a reader would; whatever it leaves running in the background is ended with it."""
    if block.file is not None:
        (folder / block.file).write_text(block.text, encoding="utf-8")
        return
    commands = {"sh": ["bash", "-euo", "pipefail", "-c", block.text], "python": [sys.executable, "-c", block.text]}
    if block.language not in commands:
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with (folder / "said.log").open("w+") as said:
        process = subprocess.Popen(
            commands[block.language],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=600)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        assert code == 0, f"{block.text}\nended with {code}:\n{said.read()[-3000:]}"


def test_every_how_to_is_here() -> None:
    assert {path.stem for path in (DOCS / "how-to").glob("*.md")} == set(LEFT)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT)
def test_a_how_to_works_as_it_stands(name: str, tmp_path: Path) -> None:
    if name in ("teach-with-five-images", "compare-methods"):
        pytest.importorskip("torch")
    blocks = blocks_of((DOCS / "how-to" / f"{name}.md").read_text(encoding="utf-8"))
    assert any(block.language == "sh" and "fewcell " in block.text for block in blocks)
    for block in blocks:
        run(block, tmp_path)
    assert [path for path in LEFT[name] if not (tmp_path / path).exists()] == []


def test_a_block_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no such image"):
        run(Block("sh", "echo no such image; false", None), tmp_path)
    with pytest.raises(AssertionError, match="is to be replaced"):
        blocks_of("<!-- test: --minutes 8 -> --steps 2 -->\n```sh\nfewcell train\n```\n")


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there"


def test_what_the_pages_say_of_a_diameter_that_is_off(draw_discs) -> None:
    image, truth = draw_discs(0, shape=(256, 256))
    segmenter = Segmenter.load(threads=1)

    def f1_at(diameter_px: float) -> float:
        labels = segmenter.segment(image, diameter_px=diameter_px).labels
        return f1(match(truth, labels))

    assert min(f1_at(11), f1_at(22), f1_at(44)) > 0.9
    assert f1_at(66) < 0.2


def test_flags_that_the_pages_name_are_there() -> None:
    import typer.main

    from fewcell.cli import app

    commands = typer.main.get_command(app).commands
    known = {flag for command in commands.values() for one in command.params for flag in one.opts}
    for page in (DOCS / "choices.md", DOCS / "failures.md", DOCS / "training.md"):
        named = set(re.findall(r"`(--[a-z-]+)", page.read_text(encoding="utf-8")))
        assert named, page
        assert named <= known, f"{page.name} names {sorted(named - known)}"
