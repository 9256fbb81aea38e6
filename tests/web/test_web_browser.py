"""The whole path in a browser: drop, segment, correct, teach, download, and what it looks like on the way."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

pytestmark = pytest.mark.slow
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
WAIT_MS = 240_000


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Serve a folder and open its page; any error in the browser fails the test. Screenshots: shoot(name)."""
    pictures = Path(os.environ.get("FEWCELL_SCREENSHOTS", tmp_path / "pictures"))
    opened, faults = [], []

    def open_page(root, **options):
        command = [sys.executable, "-c", "from fewcell.cli import main; main()", "serve", str(root), "--port", "0"]
        server = subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.PIPE, text=True)
        opened.append(server)
        page = browser.new_page(viewport={"width": 1366, "height": 768}, accept_downloads=True, **options)
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(re.search(r"http\S+", server.stdout.readline())[0])
        assert "token" not in page.url
        page.shoot = lambda name: page.screenshot(path=pictures / f"{name}.png")
        page.faults = faults
        return page

    yield open_page
    for server in opened:
        server.terminate()
        server.wait(10)
    assert faults == []


def drop(page, path):
    """Drop a file on the page, as from a file manager."""
    content = page.evaluate_handle(
        """([name, bytes]) => { const all = new DataTransfer();
        all.items.add(new File([new Uint8Array(bytes)], name)); return all; }""",
        [path.name, list(path.read_bytes())],
    )
    page.dispatch_event("body", "drop", {"dataTransfer": content})


def drag(page, *places):
    """Drag over the pane; places: y and x as shares of its height and width."""
    box = page.locator(".pane canvas.cells").first.bounding_box()
    for number, (y, x) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if not number:
            page.mouse.down()
    page.mouse.up()


def count(page):
    return int(page.inner_text("#count").split()[0].replace(",", ""))


def move(page, slider, to):
    page.eval_on_selector(
        f"#{slider}", f"slider => {{ slider.value = {to}; slider.dispatchEvent(new Event('input')); }}"
    )


def wait_for_count(page, expected):
    page.wait_for_function(f"() => document.querySelector('#count').textContent.startsWith('{expected} ')")


def test_drop_segment_correct_teach_download(visit, draw_discs, tmp_path):
    root, dropped = tmp_path / "root", tmp_path / "discs.png"
    root.mkdir()
    Image.fromarray(draw_discs(5, (500, 700))[0]).save(dropped)
    page = visit(root)
    page.wait_for_selector("text=No images yet")
    page.shoot("1-empty")

    drop(page, dropped)
    page.wait_for_selector("nav >> text=discs.png")
    page.wait_for_selector("#segment")
    page.wait_for_timeout(800)
    page.shoot("2-first")
    page.fill("#diameter", "22")
    page.click("#segment")
    page.wait_for_selector("text=Finding the cells")
    page.shoot("3-working")
    page.wait_for_selector("#count:not(:empty)", timeout=WAIT_MS)
    page.wait_for_timeout(1000)
    found = count(page)
    assert found > 40
    page.shoot("4-cells")

    page.keyboard.press("n")  # the least certain cell, which is removed
    page.wait_for_selector("text=found by the model")
    page.keyboard.press("x")
    wait_for_count(page, found - 1)
    page.keyboard.press("u")
    wait_for_count(page, found)
    page.keyboard.press("n")
    page.wait_for_timeout(1200)
    page.keyboard.press("s")
    drag(page, (0.35, 0.5), (0.65, 0.5))
    wait_for_count(page, found + 1)
    page.shoot("4-split")
    page.keyboard.press("m")  # both parts are selected
    wait_for_count(page, found)
    page.keyboard.press("d")
    drag(page, (0.1, 0.1), (0.1, 0.9), (0.9, 0.9), (0.9, 0.1))
    wait_for_count(page, found + 1)
    for expected in (found, found + 1, found):
        page.keyboard.press("Control+z")
        wait_for_count(page, expected)
    page.keyboard.press("v")
    for key in "nxnxuu":  # faster than anything is answered
        page.keyboard.press(key)
    wait_for_count(page, found - 2)
    wait_for_count(page, found)
    page.keyboard.press("Control+Shift+z")  # redo elsewhere: not one more that is taken back
    page.wait_for_timeout(300)
    assert page.is_disabled("[data-do=undo]")
    page.keyboard.press("n")
    page.keyboard.down("r")
    for _ in range(5):  # held
        page.keyboard.down("r")
    page.keyboard.up("r")
    page.wait_for_function("() => !document.querySelector('[data-do=undo]').disabled")
    page.keyboard.press("0")
    page.wait_for_timeout(1200)
    page.keyboard.press("a")
    move(page, "score", 990)
    drag(page, (0.02, 0.02), (0.5, 0.5), (0.98, 0.98))
    page.wait_for_selector("text=The sliders hide")
    assert "1 cells known" in page.inner_text("#teach"), "one was said to be right"
    move(page, "score", 0)
    drag(page, (0.02, 0.02), (0.5, 0.5), (0.98, 0.98))
    page.wait_for_function("() => parseInt(document.querySelector('#teach').textContent, 10) > 1")
    page.wait_for_timeout(500)
    page.shoot("5-corrected")
    known = int(page.inner_text("#teach p").split()[0])
    assert known > 0.9 * found

    page.reload()
    wait_for_count(page, found)
    page.wait_for_selector(f"text={known} cells known")

    page.click("[data-tool=select]")
    box = page.locator(".pane canvas.cells").first.bounding_box()
    for y in range(1, 20):  # until a cell is hit
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + y / 20 * box["height"])
        page.wait_for_timeout(100)
        if page.inner_text("#cell-number"):
            break
    assert "area (px)" in page.inner_text("#cell")
    page.select_option("#colour", "area")
    move(page, "least", 500)
    assert " of " in page.inner_text("#count")
    assert page.get_attribute("#least", "aria-valuetext") == page.inner_text("#least-value") != "any"
    move(page, "least", 0)
    move(page, "score", 990)
    assert " of " in page.inner_text("#count")
    move(page, "score", 0)
    for kind in ("csv", "parquet", "h5ad", "geojson", "geojson.gz", "rois", "tiff", "zarr", "overlay"):
        with page.expect_download() as waited:
            page.click(f"#files a[href*='/files/{kind}?']")
        assert Path(waited.value.path()).stat().st_size > 1000
    teach(page)


def teach(page):
    """Teach for a moment, keep the model, and put it beside the other."""
    pytest.importorskip("torch", reason="teaching needs the extra fewcell[train]")
    page.fill("#minutes", "0.1")
    page.check("#may-forget")
    page.click("#teach button")
    page.wait_for_selector("#teach progress")
    page.wait_for_timeout(1500)
    page.shoot("6-teaching")
    page.wait_for_selector("text=Keep the new model", timeout=WAIT_MS)
    assert re.search(r"F1 \d\.\d+ → \d\.\d+", page.inner_text("#teach"))
    page.shoot("7-taught")
    page.click("text=Keep the new model")
    page.wait_for_selector("text=model taught-1")
    page.click("#segment")
    page.wait_for_selector("#count:not(:empty)", timeout=WAIT_MS)
    page.wait_for_selector("#other:not(:disabled)")
    page.select_option("#other", "default")
    page.wait_for_selector(".pane >> nth=1")
    page.wait_for_timeout(1500)
    page.shoot("8-beside")


def test_errors_are_said(visit, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    tifffile.imwrite(root / "five channels.tif", np.zeros((5, 64, 64), np.uint16), metadata={"axes": "CYX"}, ome=True)
    (root / "<b>damaged<b>.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    page = visit(root, color_scheme="dark")
    page.click("nav >> text=five channels.tif")
    page.click("#segment")
    page.wait_for_selector("text=This did not work", timeout=WAIT_MS)
    assert "5 channels" in page.inner_text("#card .error")
    page.shoot("9-error")
    page.click("nav >> text=<b>damaged<b>.png")
    page.wait_for_selector("text=This image cannot be shown")
    assert page.locator("nav b").count() == 0
    page.shoot("10-damaged")
    page.faults[:] = [fault for fault in page.faults if "the server responded with a status of 422" not in fault]


def test_a_large_slide_with_many_cells(visit, tmp_path, monkeypatch):
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(benchmarks)
    spec = importlib.util.spec_from_file_location("web_benchmark", benchmarks / "web.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert benchmark.prepare(tmp_path, 10_000) == 50_176
    page = visit(tmp_path, color_scheme="dark")
    wait_for_count(page, "50,176")
    page.wait_for_load_state("networkidle")
    page.shoot("11-large")
    for _ in range(7):
        page.keyboard.press("+")
        page.wait_for_timeout(300)
    page.wait_for_timeout(1500)
    took = page.eval_on_selector(
        "#score",
        """slider => { slider.value = 700; const start = performance.now();
        slider.dispatchEvent(new Event("input")); return performance.now() - start; }""",
    )
    assert took < 1000, "a slider acts at once"
    assert 20_000 < count(page) < 25_000
    page.wait_for_timeout(300)
    page.shoot("12-large-near")
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/cells/" in request.url else None)
    for key, times in (("-", 2), ("ArrowLeft", 45), ("ArrowUp", 45)):
        for _ in range(times):
            page.keyboard.press(key)
    for sweep in range(4):  # over more tiles than are kept
        for _ in range(80):
            page.keyboard.press("ArrowLeft" if sweep % 2 else "ArrowRight")
            page.wait_for_timeout(40)
        for _ in range(12):
            page.keyboard.press("ArrowDown")
    page.wait_for_timeout(2000)
    count_before = len(asked)
    page.wait_for_timeout(2000)
    assert count_before > 160
    assert len(asked) == count_before, "tiles come once"
    page.shoot("13-large-far")
