"""How quick the page is on a large slide: tiles, table, memory, ten people at once.

    python benchmarks/web.py --out docs/results/web.csv

A slide of 10,000 x 10,000 px with 50,000 cells is drawn, and its cells are written down as if they had been found. A
server is started for it in a process of its own, and asked over loopback: each tile of cells and of the image at every
step, by one person, then by ten at once. One row a kind of request: how often, the median, the 95th percentile and the
longest time in milliseconds, errors, and the server's memory in MiB (resident, and at its peak so far).
"""

import argparse
import csv
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import tifffile
from rows import save_rows

from fewcell.images import open_slide
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.slides.label_zarr import chunks_of, create_labels, shrink_chunk
from fewcell.slides.plan import SlidePlan, slide_task
from fewcell.web.work_folder import PLAN_FILE

PEOPLE = 10
CELLS_EACH_SIDE = 224  # 50,176 cells in a grid that is shaken a little


def draw(side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Round cells in a grid, each a little off: an image (height, width) and its labels."""
    rng = np.random.default_rng(0)
    pitch = side_px / CELLS_EACH_SIDE
    labels = np.zeros((side_px, side_px), dtype=np.uint32)
    reach = int(0.45 * pitch)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for number in range(CELLS_EACH_SIDE**2):
        row, column = divmod(number, CELLS_EACH_SIDE)
        centre = np.array([row + 0.5, column + 0.5]) * pitch + rng.uniform(-0.1, 0.1, 2) * pitch
        top, left = np.clip(centre.astype(int) - reach, 0, side_px - len(y))
        disc = np.hypot(y, x * rng.uniform(1, 1.4)) <= reach * rng.uniform(0.6, 0.95)
        labels[top : top + len(y), left : left + len(y)][disc] = number + 1
    noise = rng.integers(10, 40, labels.shape, dtype=np.uint8)
    return np.where(labels > 0, noise + 140, noise).astype(np.uint8), labels


def prepare(root: Path, side_px: int) -> int:
    """Write a slide and its cells where the page looks for them; how many cells there are."""
    image, labels = draw(side_px)
    slide = root / "slide.tif"
    tifffile.imwrite(slide, image, tile=(512, 512), compression="zlib", photometric="minisblack")
    folder = root / "fewcell" / "results" / slide.name / "default"
    folder.mkdir(parents=True)
    path = folder / "slide_label.zarr"
    create_labels(path, labels.shape, None)
    arrays, windows = chunks_of(path)
    for level, (top, left, bottom, right) in windows:
        if level == 0:
            arrays[0][top:bottom, left:right] = labels[top:bottom, left:right]
        else:
            shrink_chunk(arrays, level, (top, left, bottom, right))
    area = np.bincount(labels.ravel())[1:]
    y, x = (
        np.bincount(labels.ravel(), np.broadcast_to(i, labels.shape).ravel())[1:] / area
        for i in np.ogrid[:side_px, :side_px]
    )
    scores = np.random.default_rng(1).uniform(0.3, 1, len(area))
    with (folder / "slide_cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "score", "y", "x", "area_px", "diameter_px", "area_um2", "diameter_um", "mean_gray"])
        for i in range(len(area)):
            diameter = 2 * np.sqrt(area[i] / np.pi)
            writer.writerow(
                [i + 1, f"{scores[i]:.4f}", f"{y[i]:.2f}", f"{x[i]:.2f}", area[i], f"{diameter:.2f}", "", "", 160]
            )
    segmenter = Segmenter.load("default", threads=1)
    with open_slide(slide) as opened:
        task = slide_task(opened, segmenter, FileSettings(diameter=32), 1024)
    plan = SlidePlan(
        task=task, slide=str(slide), model="default", shape=labels.shape, contrast_low=(0.0,), contrast_span=(255.0,),
        diameter_px=32.0, diameter_source="given", zooms=(), reach_px=0, multiple_px=8, stride=2, min_surest=0.0,
        block_px=2048, halo_px=192, most_halo_px=1024,
    )  # fmt: skip
    (folder / PLAN_FILE).write_text(plan.model_dump_json())
    return len(area)


def memory_mib(process: int) -> tuple[float, float]:
    status = Path(f"/proc/{process}/status").read_text()
    return tuple(int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM"))


def ask(client: httpx.Client, paths: list[str]) -> tuple[list[float], int]:
    """How long each request took, in milliseconds, and how many went wrong."""
    took, errors = [], 0
    for path in paths:
        start = time.perf_counter()
        errors += client.get(path).status_code != 200
        took.append(1000 * (time.perf_counter() - start))
    return took, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000, help="of the slide, in pixels")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        n_cells = prepare(Path(name), arguments.side)
        command = [sys.executable, "-c", "from fewcell.cli import main; main()", "serve", name, "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            rows = measure(re.search(r"http\S+", server.stdout.readline())[0], server.pid, arguments.side)
        finally:
            server.terminate()
    for row in rows:
        row |= {"side_px": arguments.side, "cells": n_cells}
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    save_rows(rows, arguments.out, model="default")


def measure(address: str, process: int, side_px: int) -> list[dict]:
    base = address.split("/?")[0]
    image, cells = "/api/images/slide.tif", "/api/images/slide.tif/cells/default"
    steps = [2**i for i in range(6)]
    tiles = [
        f"/tiles/{step}/{row}/{column}"
        for step in steps
        for row in range(-(-side_px // (512 * step)))
        for column in range(-(-side_px // (512 * step)))
    ]
    everything = [cells + tile for tile in tiles] + [image + tile for tile in tiles]
    rows = []

    def add(what: str, took: list[float], errors: int) -> None:
        resident, peak = memory_mib(process)
        numbers = {"median_ms": np.median(took), "p95_ms": np.percentile(took, 95), "longest_ms": max(took)}
        numbers |= {"memory_mib": resident, "peak_mib": peak}
        rows.append(
            {
                "what": what,
                "requests": len(took),
                "errors": errors,
                **{k: round(float(v), 1) for k, v in numbers.items()},
            }
        )

    with httpx.Client(base_url=base, follow_redirects=True, timeout=120) as client:
        client.get(address)
        add("image opened", *ask(client, [image]))
        add("cells opened", *ask(client, [cells]))
        add("table of cells", *ask(client, [cells] * 5))
        add("tile of cells", *ask(client, [cells + tile for tile in tiles]))
        for step in steps:
            add(
                f"tile of cells at step {step}",
                *ask(client, [cells + tile for tile in tiles if f"/tiles/{step}/" in tile]),
            )
        add("tile of the image", *ask(client, [image + tile for tile in tiles]))
        add("tile of cells during 20 corrections", *correct(client, cells, tiles))
        cookies = client.cookies
    with ThreadPoolExecutor(PEOPLE) as people:

        def look(person: int) -> tuple[list[float], int]:
            with httpx.Client(base_url=base, cookies=cookies, timeout=120) as client:
                return ask(client, np.random.default_rng(person).permutation(everything)[:200].tolist())

        found = list(people.map(look, range(PEOPLE)))
    add(
        f"any tile, {PEOPLE} people at once", [t for took, _ in found for t in took], sum(errors for _, errors in found)
    )
    return rows


def correct(client: httpx.Client, cells: str, tiles: list[str]) -> tuple[list[float], int]:
    """Tiles after each of twenty corrections; how long they took, and how many requests went wrong."""
    took, errors = [], 0
    for number in range(1, 21):
        body = {"kind": "delete", "cells": [number]}
        answer = client.post(f"{cells}/corrections", json=body, headers={"origin": str(client.base_url).rstrip("/")})
        more, wrong = ask(client, [cells + tile for tile in tiles[:10]])
        took, errors = took + more, errors + wrong + (answer.status_code != 200)
    return took, errors


if __name__ == "__main__":
    main()
