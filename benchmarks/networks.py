"""How fast the networks of a plan are on a CPU, in use and in training.

    fewcell benchmark plans/networks.toml -o OUT
    python benchmarks/networks.py plans/networks.toml --out OUT/networks.csv
    fewcell report OUT -o networks.html

The first says how good they are when each has learned for the same time, the last shows that against what this says.
In use: OpenVINO, all cores, one tile of 1,280 px, in every precision that the CPU knows, int8 included. In training:
bf16 autocast, channels last, crops of 256 px, one thread. Networks take turns, and each figure is the best of several.
Weights are drawn: speed does not depend on them.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rows import save_rows

from fewcell.benchmark.plan import load_plan, runs_of
from fewcell.config import Recipe
from fewcell.engine import OpenVinoEngine, Precision, offered_precisions
from fewcell.networks import Network, make_network
from fewcell.representations import make_representation
from fewcell.training.export import export_network
from fewcell.training.quantise import quantise

SIDE_PX, CROP_PX, CROPS, TURNS = 1280, 256, 4, 5


def made(recipe: Recipe) -> Network:
    torch.manual_seed(0)
    representation = make_representation(recipe.representation.name, recipe.representation.settings)
    return make_network(recipe.network.name, len(representation.channels), recipe.network.settings)


def engine_of(recipe: Recipe, precision: Precision, folder: Path) -> OpenVinoEngine:
    """The network as a user's CPU runs it, in a precision."""
    onnx, int8 = folder / "network.onnx", folder / "int8.xml"
    if not onnx.exists():
        folder.mkdir(parents=True)
        representation = make_representation(recipe.representation.name, recipe.representation.settings)
        export_network(made(recipe).eval(), representation, onnx, folder / "weights.safetensors")
    if precision != "int8":
        return OpenVinoEngine(onnx, precision=precision)
    images = np.random.default_rng(0).random((4, 3, CROP_PX, CROP_PX), dtype=np.float32)
    quantise(onnx, int8, list(images))
    return OpenVinoEngine(int8)


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
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    recipes = {
        (run.recipe.network.name, json.dumps(run.recipe.network.settings)): run.recipe
        for run in runs_of(load_plan(arguments.plan))
    }
    precisions = offered_precisions(has_int8=True)
    image = np.random.default_rng(0).random((3, SIDE_PX, SIDE_PX), dtype=np.float32)
    with tempfile.TemporaryDirectory() as temporary:
        engines = {
            (key, precision): engine_of(recipe, precision, Path(temporary) / str(number))
            for number, (key, recipe) in enumerate(recipes.items())
            for precision in precisions
        }
    best = dict.fromkeys(engines, np.inf)
    for _ in range(TURNS):
        for key, engine in engines.items():
            start = time.perf_counter()
            engine(image)
            best[key] = min(best[key], time.perf_counter() - start)
    rows = []
    for key, recipe in recipes.items():
        network = made(recipe)
        row: dict[str, object] = {"network": key[0], "settings": key[1]}
        row |= {"parameters": sum(p.numel() for p in network.parameters())}
        row |= {f"{precision}_mpx_per_s": SIDE_PX**2 / 1e6 / best[key, precision] for precision in precisions}
        row |= {"training_crops_per_s": crops_per_second(network)}
        rows.append(row)
        shown = [f"{name} {value:.2f}" if isinstance(value, float) else str(value) for name, value in row.items()]
        print("  ".join(shown), flush=True)
    save_rows(rows, arguments.out)


if __name__ == "__main__":
    main()
