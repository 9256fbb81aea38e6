"""How fast networks of several sizes and forms are on a CPU, in use and in training.

    python benchmarks/networks.py --out docs/results/networks.csv

In use: OpenVINO, all cores, one tile of 1,280 px, in every precision that the CPU knows. In training: bf16 autocast,
channels last, crops of 256 px, one thread. Networks take turns, and each figure is the best of several. What they
reach when they learn for the same time: `fewcell benchmark plans/networks.toml`.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fewcell.benchmark.tables import save_table
from fewcell.engine import OpenVinoEngine, cpu_precision
from fewcell.networks import Network, make_network

SIDE_PX, CROP_PX, CROPS, TURNS = 1280, 256, 4, 5
KINDS: dict[str, dict[str, object]] = {
    "16-32-64-160": {},
    "16-32-64-160 reparameterised": {"block": "reparameterised"},
    "24-48-96-192": {"widths": [24, 48, 96, 192]},
    "32-64-96-192": {"widths": [32, 64, 96, 192]},
    "24-48-96-192 depthwise": {"widths": [24, 48, 96, 192], "block": "depthwise"},
    "32-64-128-256 depthwise": {"widths": [32, 64, 128, 256], "block": "depthwise"},
    "32-64-160 below 16": {"widths": [32, 64, 160], "stem_width": 16},
    "48-96-192 below 16": {"widths": [48, 96, 192], "stem_width": 16},
    "64-128-192 below 16": {"widths": [64, 128, 192], "stem_width": 16},
}


def make(name: str) -> Network:
    torch.manual_seed(0)
    return make_network("resunet", 3, KINDS[name])


def exported(network: Network, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = {"image": {2: "height", 3: "width"}, "prediction": {2: "rows", 3: "columns"}}
        names = {"input_names": ["image"], "output_names": ["prediction"]}
        image = torch.zeros(1, 3, 64, 64)
        torch.onnx.export(network.eval(), (image,), str(path), dynamic_axes=size, dynamo=False, **names)
    return path


def crops_per_second(network: Network) -> float:
    torch.set_num_threads(1)
    network.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters())
    images, seconds = torch.rand(CROPS, 3, CROP_PX, CROP_PX).contiguous(memory_format=torch.channels_last), []
    for _ in range(TURNS):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(images).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return CROPS / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    names = list(KINDS)
    known: list[Literal["bf16", "f32"]] = ["f32"] if cpu_precision() == "f32" else ["bf16", "f32"]
    image = np.random.default_rng(0).random((3, SIDE_PX, SIDE_PX), dtype=np.float32)
    networks = {name: make(name) for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        files = {name: exported(network, Path(temporary) / f"{name}.onnx") for name, network in networks.items()}
        engines = {(name, p): OpenVinoEngine(files[name], precision=p) for name in names for p in known}
    best = dict.fromkeys(engines, np.inf)
    for _ in range(TURNS):
        for key, engine in engines.items():
            start = time.perf_counter()
            engine(image)
            best[key] = min(best[key], time.perf_counter() - start)
    machine = f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}"
    rows: list[dict[str, object]] = []
    for name, network in networks.items():
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        row: dict[str, object] = {"network": name, "parameters_m": millions}
        row |= {f"mpx_per_s_{p}": SIDE_PX**2 / 1e6 / best[name, p] for p in known}
        row["crops_per_s_one_thread"] = crops_per_second(network)
        rows.append({**row, "machine": machine})
        print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{v:26s}" for k, v in row.items()), flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if arguments.out:
        extra = {"commit": commit.stdout.strip(), "command": shlex.join(["python", *sys.argv])}
        save_table(rows, arguments.out, extra=extra, overwrite=True)


if __name__ == "__main__":
    main()
