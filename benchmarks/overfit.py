"""Whether each representation can be learned at all: trained on four real crops, and scored on the same four.

    python benchmarks/overfit.py ../shared/data/train --out docs/results/overfit.csv

One crop of each of four sources (nuclei, spread cells in phase contrast, yeast, stained tissue), without any variation
of place or intensity; the default network; the thresholds are tuned on the four crops as `tune` does after any
training. A representation passes with a mean F1 (IoU 0.5) of 0.95 or better.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rows import save_rows

from fewcell.config import Augmentation
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample, open_dataset
from fewcell.metrics import f1, match
from fewcell.networks import make_network
from fewcell.representations import REPRESENTATIONS
from fewcell.training.batches import make_batch
from fewcell.training.supervised import Supervised

SOURCES = ("dsb2018", "usiigaci", "yeastvision", "monuseg")
CROP_PX = 256
CANONICAL_PX = 24.0
STILL = Augmentation(**dict.fromkeys(set(Augmentation.model_fields) - {"scale_jitter"}, 0.0), scale_jitter=1.0)


def choose(samples: list[Sample]) -> list[Sample]:
    """The first labelled image of each source, by its name."""
    labelled = sorted((s for s in samples if s.labels), key=lambda s: s.stem)
    return [next(s for s in labelled if s.source == source) for source in SOURCES]


def overfit(name: str, samples: list[Sample], steps: int, learning_rate: float) -> dict[str, object]:
    torch.manual_seed(0)
    representation = REPRESENTATIONS[name]()
    network = make_network("resunet", len(representation.channels)).train()
    source = CropSource(samples, Grid(CROP_PX, network.stride, representation.margin_px, CANONICAL_PX), STILL)
    generators = [np.random.default_rng(i) for i in range(len(samples))]
    batch = make_batch([source] * len(samples), representation, list(range(len(samples))), generators).to(
        torch.device("cpu")
    )
    inner = slice(representation.margin_px, -representation.margin_px or None)
    labels = [source.crop(i, np.random.default_rng(i))[1][inner, inner] for i in range(len(samples))]

    start = time.perf_counter()
    objective = Supervised(representation, network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    for _ in range(steps):
        loss = torch.stack(list(objective.losses(network(batch.images), batch, 0.0).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        predictions = list(representation.activate(network(batch.images)).numpy())
    tuned = representation.refit(predictions, labels).tune(predictions, labels)
    scores = {
        sample.stem: f1(match(truth, tuned.decode(prediction).labels))
        for sample, truth, prediction in zip(samples, labels, predictions, strict=True)
    }
    mean = float(np.mean(list(scores.values())))
    return {
        "representation": name,
        "mean_f1_50": round(mean, 4),
        **{stem: round(value, 4) for stem, value in scores.items()},
        "loss": round(float(loss.detach()), 4),
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("names", nargs="*", help="representations; all by default")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    samples = choose(open_dataset(arguments.dataset))
    rows = []
    for name in arguments.names or REPRESENTATIONS:
        rows.append(overfit(name, samples, arguments.steps, arguments.learning_rate))
        print(rows[-1], flush=True)
    save_rows(rows, arguments.out, torch=torch.__version__)


if __name__ == "__main__":
    main()
