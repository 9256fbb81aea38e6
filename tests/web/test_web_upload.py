"""Files that are dropped: whole or not at all, within limits, of a kind that can be read, under a safe name."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.web.refusal import Refused
from fewcell.web.routes import STATIC
from fewcell.web.upload import Limits, check_dimensions
from fewcell.web.work_folder import UPLOAD, WorkFolder


def png(shape=(40, 50)):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(shape[0] * shape[1], dtype=np.uint32).astype(np.uint8).reshape(shape)).save(buffer, "PNG")
    return buffer.getvalue()


def files(root):
    return sorted(path.relative_to(root) for path in root.rglob("*"))


@pytest.fixture
def limited(tmp_path, open_page):
    root = tmp_path / "empty"
    root.mkdir()
    with open_page(root, limits=Limits(upload_bytes=20_000, picture_px=5000, side_px=90)) as client:
        yield client, root


def test_a_file_that_is_dropped_is_in_the_folder(limited):
    client, root = limited
    assert client.put("/api/images/new.png", content=png()).status_code == 200
    assert (root / "new.png").read_bytes() == png()
    assert [image["name"] for image in client.get("/api/state").json()["images"]] == ["new.png"]
    assert client.get("/api/images/new.png").json()["width"] == 50


def test_a_file_is_never_replaced(limited):
    client, root = limited
    client.put("/api/images/new.png", content=png())
    assert client.put("/api/images/new.png", content=png((10, 10))).status_code == 409
    assert (root / "new.png").read_bytes() == png()


def tiff(shape):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros(shape, np.uint8), compression="zlib")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("big.png", b"\x89PNG" + b"x" * 30_000, 413, "GiB"),
        ("wide.png", png((60, 90)), 413, "megapixels"),
        ("long.tif", tiff((4, 91)), 413, "longer than 90 px"),
        ("stack.tif", tiff((5, 8, 8)), 422, "stack.tif"),
        ("text.png", b"hello", 422, "text.png"),
        ("cut.png", png()[:60], 422, "cut.png"),
        ("empty.png", b"", 422, "empty.png"),
        ("page.html", b"<script>", 415, "Supported are"),
        ("x.zarr", png(), 415, "Supported are"),
        ("a_label.tiff", png(), 415, "Supported are"),
        (".hidden.png", png(), 400, "plain file name"),
    ],
)
def test_what_cannot_be_taken_leaves_nothing_behind(limited, name, content, status, words):
    client, root = limited
    answer = client.put(f"/api/images/{name}", content=content)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert [path for path in files(root) if path.name != "fewcell"] == []


def test_a_picture_that_would_grow_too_large_is_not_opened_either(limited):
    client, root = limited
    (root / "wide.png").write_bytes(png((60, 90)))
    assert client.get("/api/images/wide.png").status_code == 413


def test_messages_call_files_by_their_names(limited):
    client, root = limited
    (root / "cut.png").write_bytes(png()[:60])
    message = client.get("/api/images/cut.png").json()["error"]
    assert message.startswith("cut.png: ")


def test_file_systems_without_links_take_files_too(limited, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    client, root = limited
    assert client.put("/api/images/new.png", content=png()).status_code == 200
    assert (root / "new.png").read_bytes() == png()


def test_what_a_kill_left_of_a_file_that_was_arriving_is_removed(limited):
    _, root = limited
    (root / "fewcell").mkdir(exist_ok=True)
    (root / "fewcell" / f"{UPLOAD}0123.tif").write_bytes(b"half")
    WorkFolder(root).remove_temporary()
    assert not list((root / "fewcell").glob(".*"))


def test_a_picture_of_many_pixels_is_judged_by_the_limit_alone(tmp_path):
    """Pillow itself refuses more than 179 million."""
    path = tmp_path / "large.png"
    Image.new("1", (14_000, 14_000)).save(path)
    check_dimensions(path, Limits())
    with pytest.raises(Refused, match="14000 x 14000 px is more than 150 megapixels"):
        check_dimensions(path, Limits(picture_px=150_000_000))


def test_a_full_disk_is_said(limited, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fewcell.web.upload._take", refuse)
    client, root = limited
    answer = client.put("/api/images/new.png", content=png())
    assert answer.status_code == 503
    assert "No space left" in answer.json()["error"]
    assert [path for path in files(root) if path.name != "fewcell"] == []


def test_a_name_with_html_stays_a_name(limited):
    client, root = limited
    name = "<img src=x onerror=alert(1)>.png"
    assert client.put("/api/images/%3Cimg src=x onerror=alert(1)%3E.png", content=png()).status_code == 200
    state = client.get("/api/state")
    assert state.headers["content-type"] == "application/json"
    assert state.json()["images"][0]["name"] == name
    assert (root / name).exists()


def test_the_page_builds_no_html_from_text(client):
    page = client.get("/").text
    scripts = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert all(script.startswith("/static/") for script in scripts)
    assert "<style" not in page
    assert " style=" not in page
    names = [path.name for path in STATIC.glob("*.js")]
    assert "main.js" in names
    for name in names:
        code = client.get(f"/static/{name}").text
        for unsafe in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "http://",
            "https://",
        ):
            assert unsafe not in code, (name, unsafe)
