"""What points and boxes are worth: a network that learns from labels alone, and one that has these besides.

    python benchmarks/weak.py ../shared/data/train ../shared/data/weak --out docs/results/weak.csv

Both networks learn for the same time from the labelled images, of which none is of the weak sources; the second as
`consensus`, with 70 % of the weak images. The others are scored, the diameter estimated, by what people said of them:
points by cells that hold exactly one, boxes by bounding boxes with an IoU of 0.5 or more. People did not mark all cells
of these images, so that F1 counts right cells as false; the share of marked cells that are found does not. One row an
image and network.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fewcell.benchmark.tables import save_table
from fewcell.config import Part, load_recipe
from fewcell.data.dataset import Sample, load_sample, open_dataset
from fewcell.data.weak import read_boxes, read_points
from fewcell.metrics import Counts, count_boxes, count_points, f1
from fewcell.segmenter import Segmenter
from fewcell.training.fit import fit

HELD_OUT = 0.3


def judge(segmenter: Segmenter, samples: Sequence[Sample]) -> list[Counts]:
    """How many cells are right in each image, by its points or boxes."""
    counts = []
    for sample in samples:
        image, _ = load_sample(sample)
        found = segmenter.segment(image).labels
        shape = (found.shape[0], found.shape[1])
        if sample.points:
            counts.append(count_points(found, read_points(sample.points, shape)))
        else:
            assert sample.boxes is not None
            counts.append(count_boxes(found, read_boxes(sample.boxes, shape)))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("weak", type=Path, help="a folder with images/ and points/ or boxes/")
    parser.add_argument("--representation", default="canopy")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    labelled = [sample for sample in open_dataset(arguments.labelled) if sample.labels]
    weak = sorted((s for s in open_dataset(arguments.weak) if s.points or s.boxes), key=lambda s: s.stem)
    order = np.random.default_rng(arguments.seed).permutation(len(weak))
    n_held_out = round(HELD_OUT * len(weak))
    test, pool = ([weak[i] for i in part] for part in (order[:n_held_out], order[n_held_out:]))
    overlap = {s.source for s in labelled} & {s.source for s in weak}
    if overlap:
        sys.exit(f"{', '.join(sorted(overlap))} has labels as well: nothing would be learned of weak labels alone.")
    ways = {
        "labels alone": (Part(name="supervised"), []),
        "points and boxes besides": (Part(name="consensus", settings={"images": len(pool), "at": [0.4, 0.7]}), pool),
    }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    rows: list[dict[str, object]] = []
    for way, (objective, others) in ways.items():
        settings = {"representation": arguments.representation, "objective": objective.model_dump()}
        recipe = load_recipe(None, minutes=arguments.minutes, seed=arguments.seed, **settings)
        with tempfile.TemporaryDirectory() as folder:
            segmenter = Segmenter.load(fit(recipe, [*labelled, *others], Path(folder) / "run"))
            counts = judge(segmenter, test)
        for sample, count in zip(test, counts, strict=True):
            facts = {"way": way, "stem": sample.stem, "source": sample.source, "n_true": count.n_true}
            facts |= {"n_predicted": count.n_predicted, "right": count.true_positives, "f1": f1(count)}
            rows.append(facts | {"minutes": arguments.minutes, "seed": arguments.seed})
        for source in sorted({s.source for s in test}):
            those = [(s, c) for s, c in zip(test, counts, strict=True) if s.source == source]
            f1s = [f1(count) for _, count in those]
            found, marked = (sum(getattr(c, name) for _, c in those) for name in ("true_positives", "n_true"))
            print(f"{way:25s} {source:8s} F1 mean {np.mean(f1s):.3f}, median {np.median(f1s):.3f} ({len(f1s)} images)")
            print(f"{'':34s} of {marked} marked cells {found} are found, {found / marked:.3f}")
    if arguments.out:
        extra = {"commit": commit.stdout.strip(), "command": shlex.join(["python", *sys.argv])}
        save_table(rows, arguments.out, extra=extra, overwrite=True)


if __name__ == "__main__":
    main()
