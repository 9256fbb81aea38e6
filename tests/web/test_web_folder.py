"""Paths stay inside the folder: names, links, hidden files."""

import os
from urllib.parse import quote

import pytest

from fewcell.errors import ConfigError
from fewcell.web.refusal import Refused
from fewcell.web.work_folder import WorkFolder, check_name

BAD = [
    "..",
    ".",
    "",
    "../x.png",
    "a/b.png",
    "/etc/passwd",
    "a\\b.png",
    ".hidden.png",
    "x\0.png",
    "x\n.png",
    "x" * 300 + ".png",
]


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_is_no_plain_one_is_refused(name):
    with pytest.raises(Refused):
        check_name(name)


@pytest.mark.parametrize("name", [*BAD, "../../secret.png", "..%2fsecret.png", "nothing.png", "secret.txt"])
def test_no_request_leaves_the_folder(client, root, name):
    secret = root.parent / "secret.png"
    secret.write_bytes((root / "discs.png").read_bytes())
    (root / "secret.txt").write_text("x")
    for path in ("", "/thumbnail", "/tiles/1/0/0", "/cells/default", "/cells/default/files/csv"):
        assert client.get(f"/api/images/{quote(name, safe='')}{path}").status_code in (400, 404, 405)
    for model in ("%2E%2E", "..%2Fdefault", "a%20b", "%2Fetc"):
        assert client.get(f"/api/images/discs.png/cells/{model}").status_code == 404


def test_links_are_neither_listed_nor_followed(client, root):
    secret = root.parent / "secret.png"
    secret.write_bytes((root / "discs.png").read_bytes())
    (root / "link.png").symlink_to(secret)
    assert [image["name"] for image in client.get("/api/state").json()["images"]] == ["discs.png"]
    assert client.get("/api/images/link.png").status_code == 404
    assert client.put("/api/images/link.png", content=secret.read_bytes()).status_code == 409


def test_a_slide_folder_that_holds_a_link_is_refused(client, root):
    inside = root / "slide.zarr" / "0"
    inside.mkdir(parents=True)
    (inside / "0").symlink_to(root.parent)
    assert client.get("/api/images/slide.zarr").status_code == 403


def test_results_that_are_a_link_are_refused(client, root):
    results = root / "fewcell" / "results" / "discs.png" / "default"
    os.rename(results, root.parent / "elsewhere")
    results.symlink_to(root.parent / "elsewhere")
    assert client.get("/api/images/discs.png/cells/default").status_code == 403


def test_a_home_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "fewcell").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="no folder of its own"):
        WorkFolder(tmp_path / "served")
    with pytest.raises(ConfigError, match="is no folder"):
        WorkFolder(tmp_path / "nothing")


@pytest.mark.parametrize(
    "path", ["../site.py", "..%2fsite.py", "%2e%2e/site.py", "openseadragon/../../site.py", "/etc/passwd"]
)
def test_static_files_are_those_of_the_page_only(client, path):
    assert client.get(f"/static/{path}").status_code == 404
