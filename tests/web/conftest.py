"""A folder with one drawn image that has been segmented, and a page that serves it without a network."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewcell.web.cells import Cells
from fewcell.web.site import Site

HOST = "127.0.0.1:8422"
NAME, CELLS = "discs.png", "/api/images/discs.png/cells/default"


def _wait_for(client: Any, number: int, timeout_s: float = 180) -> dict[str, Any]:
    """The job of this number, once it has ended."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        job = next(job for job in client.get("/api/state").json()["jobs"] if job["number"] == number)
        if job["state"] not in ("waiting", "working"):
            return job
        time.sleep(0.1)
    raise AssertionError("the job did not end")


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., dict[str, Any]]:
    return _wait_for


@pytest.fixture(scope="session")
def open_page() -> Callable[..., Any]:
    """Make a client of the page for a folder; given(host=...) and so on change what it sends."""
    pytest.importorskip("starlette", reason="the page needs the extra fewcell[web]")
    from starlette.testclient import TestClient

    from fewcell.web.app import make_app

    def make(
        root: Path, *, with_token: bool = True, host: str = "127.0.0.1", models: Any = ("default",), **options: Any
    ) -> Any:
        site = Site(root, models, threads=1, **options)
        app = make_app(site, token="secret", host=host, port=8422)
        client = TestClient(app, base_url=f"http://{HOST}", headers={"origin": f"http://{HOST}"})
        if with_token:
            client.cookies.set("fewcell-8422", "secret", domain="127.0.0.1")
        return client

    return make


@pytest.fixture(scope="session")
def segmented(
    open_page: Callable[..., Any], draw_discs: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder whose one image, of discs 22 px wide, was segmented through the page."""
    root = tmp_path_factory.mktemp("served")
    Image.fromarray(draw_discs(3, (700, 600))[0]).save(root / NAME)
    with open_page(root) as client:
        answer = client.post(f"/api/images/{NAME}/segment", json={"model": "default", "diameter_px": 22})
        assert _wait_for(client, answer.json()["number"])["state"] == "done"
    return root


@pytest.fixture
def root(segmented: Path, tmp_path: Path) -> Path:
    """A copy of that folder, which a test may change."""
    return Path(shutil.copytree(segmented, tmp_path / "served"))


@pytest.fixture
def client(root: Path, open_page: Callable[..., Any]) -> Iterator[Any]:
    with open_page(root) as client:
        yield client


@pytest.fixture
def cells(root: Path) -> Cells:
    from fewcell.images import open_slide

    return Cells(root / "fewcell/results/discs.png/default", root / NAME, lambda: open_slide(root / NAME))


@pytest.fixture
def tile() -> Callable[[Any, int, int, int], Any]:
    """Read a tile of labels as the browser does, without its margin."""
    from fewcell.web.cells import MARGIN_PX
    from fewcell.web.picture import TILE_PX

    def read(client: Any, step: int, row: int, column: int, shape: tuple[int, int] = (700, 600)) -> Any:
        answer = client.get(f"{CELLS}/tiles/{step}/{row}/{column}")
        assert answer.status_code == 200, answer.text
        sides = [
            min(TILE_PX, -(-side // step) - number * TILE_PX) for side, number in zip(shape, (row, column), strict=True)
        ]
        labels = np.frombuffer(answer.content, dtype="<u4").reshape(*(side + 2 * MARGIN_PX for side in sides))
        return labels[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX].astype(np.int32)

    return read
