"""Two thousand requests that nobody should send: none is a fault of ours, nothing outside the folder is touched."""

import hashlib
import io
import json
import string
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.web.upload import Limits

pytestmark = pytest.mark.slow
REQUESTS = 2000
SECRET = b"nobody may read this"


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, with a hash of what it holds."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def any_text(rng):
    letters = string.ascii_letters + string.digits + "./\\%<>\"'&;:~ \0\n\ud7ff\u202e" + "é漢"
    return "".join(rng.choice(list(letters), rng.integers(0, 30)))


def any_name(rng):
    known = [
        "discs.png", "secret.png", "link.png", "..", "../secret.png", "../../secret.txt", "/etc/passwd", "fewcell",
        "discs.png/..", "discs.png\0", ".", "a.zarr", "CON", "x" * 400, "%2e%2e%2fsecret.txt", "discs.PNG",
    ]  # fmt: skip
    return any_text(rng) if rng.random() < 0.3 else str(rng.choice(known))


def any_number(rng):
    return str(rng.choice(["0", "1", "2", "-1", "3", "512", "99999999999999999999", "1.5", "nan", "x", "1e9", ""]))


def any_path(rng):
    image = f"/api/images/{quote(any_name(rng), safe='')}"
    cells = f"{image}/cells/{quote(rng.choice(['default', 'taught-1', '..', any_text(rng)]), safe='')}"
    numbers = [any_number(rng) for _ in range(3)]
    kind = rng.choice(["csv", "tiff", "zarr", "exe", "..", any_text(rng)])
    paths = [
        "/", "/api/state", "/api/teaching", "/api/teaching/keep", "/api/teaching/drop", f"/api/jobs/{numbers[0]}",
        f"/static/{quote(any_name(rng), safe='/.')}", image, f"{image}/thumbnail", f"{image}/tiles/{'/'.join(numbers)}",
        f"{image}/segment", cells, f"{cells}/tiles/{'/'.join(numbers)}", f"{cells}/at/{numbers[0]}/{numbers[1]}",
        f"{cells}/corrections", f"{cells}/corrections", f"{cells}/files/{quote(kind, safe='')}?min_score={numbers[0]}",
        f"/{quote(any_text(rng))}",
    ]  # fmt: skip
    return str(rng.choice(paths))


def any_image(rng):
    buffer, size = io.BytesIO(), int(rng.integers(1, 60))
    pixels = rng.integers(0, 255, (size, size), dtype=np.uint8)
    if rng.random() < 0.5:
        Image.fromarray(pixels).save(buffer, rng.choice(["PNG", "JPEG", "BMP"]))
    else:
        tifffile.imwrite(buffer, pixels if rng.random() < 0.5 else np.zeros((3, size, size, 2), np.uint16))
    content = bytearray(buffer.getvalue())
    for place in rng.integers(0, len(content), rng.integers(0, 20)):
        content[place] = rng.integers(0, 256)
    return bytes(content[: rng.integers(0, len(content) + 1)]) if rng.random() < 0.3 else bytes(content)


def any_body(rng):
    numbers = [int(n) if rng.random() < 0.8 else float(n) for n in rng.integers(-10, 800, 8)]
    edit = {
        "kind": str(rng.choice(["delete", "merge", "split", "draw", "region", "confirm", "x"])),
        "cells": numbers[: rng.integers(0, 4)],
        "points": [[numbers[i], numbers[i + 1]] for i in range(0, int(rng.integers(0, 8)), 2)],
    }
    others = [
        edit, edit, edit, {"model": any_text(rng)}, {"model": "nothing", "diameter_px": numbers[0]}, [], None, "x",
        {"kind": edit},
        {"model": "default", "minutes": -1}, {"points": [[1e308, 1e308]], "kind": "split"}, {any_text(rng): numbers},
    ]  # fmt: skip
    text = json.dumps(others[rng.integers(len(others))]).encode()
    return text if rng.random() < 0.8 else any_image(rng)


def any_headers(rng):
    headers = {}
    if rng.random() < 0.15:
        headers["host"] = str(
            rng.choice(["evil.example", "127.0.0.1", "[::1]:8422", "a b", "127.0.0.1:8422@evil", "", "x:99999999"])
        )
    if rng.random() < 0.15:
        headers["origin"] = str(rng.choice(["null", "http://evil.example", "", "http://127.0.0.1:8422"]))
    if rng.random() < 0.1:
        headers["cookie"] = str(
            rng.choice(["fewcell-8422=x", "fewcell-8422=", ";;;", "fewcell-8422=secret; fewcell-8422=x"])
        )
    if rng.random() < 0.1:
        headers["content-type"] = "multipart/form-data; boundary=x"
    return headers


def test_no_request_breaks_the_page_or_leaves_the_folder(root, open_page):
    outside = root.parent
    (outside / "secret.txt").write_bytes(SECRET)
    (outside / "secret.png").write_bytes(SECRET)
    (root / "link.png").symlink_to(outside / "secret.png")
    before = {name: of for name, of in tree(outside).items() if not name.startswith("served/")}
    shown = (root / "discs.png").read_bytes()
    rng = np.random.default_rng(0)
    answers = {}
    with open_page(root, limits=Limits(upload_bytes=100_000)) as client:
        for _ in range(REQUESTS):
            method = str(rng.choice(["GET", "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]))
            path, headers, body = any_path(rng), any_headers(rng), None if method == "GET" else any_body(rng)
            if method == "PUT":
                body = any_image(rng)
            answer = client.request(method, path, headers=headers, content=body)
            assert answer.status_code < 500, (method, path, headers, body, answer.text)
            assert SECRET not in answer.content
            assert "content-security-policy" in answer.headers
            answers[answer.status_code] = answers.get(answer.status_code, 0) + 1
    assert min(answers.get(status, 0) for status in (200, 400, 403, 404, 405, 421, 422)) > 0, answers
    assert {name: of for name, of in tree(outside).items() if not name.startswith("served/")} == before
    assert (root / "discs.png").read_bytes() == shown
