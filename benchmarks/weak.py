"""What points and boxes are worth: a network that learns from labels alone, and one that has these besides.

    python benchmarks/weak.py ../shared/data/train ../shared/data/weak --seed 0 1 --out docs/results/weak.csv
    python benchmarks/weak.py ../shared/data/train ../shared/data/weak --link runs/weak
    python benchmarks/weak.py ../shared/data/train ../shared/data/weak --model default runs/default-unlabelled/model

Both networks learn for the same time from the labelled images, of which none is of the weak sources; the second as
`consensus`, with 70 % of the weak images. The others are scored by what people said of them: points by cells that
hold exactly one, boxes by bounding boxes with an IoU of 0.5 or more. The diameter is estimated and, where there are
boxes, also that of the median box. It is estimated by the scale network inside the package, for both: that one has
learned from the boxes of the 70 % that seed 0 draws, so that only the given diameter tells what boxes are worth.
People did not mark all cells of these images, so that F1 counts right cells as false; the share of marked cells that
are found does not. One row an image, network, diameter and seed: networks are trained for each seed, of which each
holds out other images.

--link makes a dataset folder of the 70 % instead, for a training of one's own; --model scores finished models on the
others, and compares the last with the first. Both take one --seed, the same: a model is else scored on what it learned
from.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rows import save_rows

from fewcell.benchmark import bootstrap
from fewcell.benchmark.tables import save_table
from fewcell.config import Part, load_recipe
from fewcell.data.dataset import Sample, load_sample, open_dataset
from fewcell.data.weak import read_boxes, read_points, usual_side
from fewcell.metrics import Counts, count_boxes, count_points, f1
from fewcell.segmenter import Segmenter
from fewcell.training.fit import fit

HELD_OUT = 0.3
WITHOUT, WITH = "labels alone", "points and boxes besides"
Diameter = Literal["estimated", "of the boxes"]


def parts(weak: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """The images that are scored, and those that are learned from."""
    order = np.random.default_rng(seed).permutation(len(weak))
    n_held_out = round(HELD_OUT * len(weak))
    test, pool = ([weak[i] for i in part] for part in (order[:n_held_out], order[n_held_out:]))
    return test, pool


def judge(segmenter: Segmenter, samples: Sequence[Sample]) -> list[tuple[Sample, Diameter, Counts]]:
    """How many cells are right in each image, by its points or boxes, for each way in which its scale can be found."""
    counts: list[tuple[Sample, Diameter, Counts]] = []
    for sample in samples:
        image, _ = load_sample(sample)
        shape = (image.pixels.shape[1], image.pixels.shape[2])
        found = segmenter.segment(image).labels
        if sample.points:
            counts.append((sample, "estimated", count_points(found, read_points(sample.points, shape))))
            continue
        assert sample.boxes is not None
        boxes = read_boxes(sample.boxes, shape)
        counts.append((sample, "estimated", count_boxes(found, boxes)))
        if len(boxes):
            given = segmenter.segment(image, diameter_px=usual_side(boxes)).labels
            counts.append((sample, "of the boxes", count_boxes(given, boxes)))
    return counts


def link(samples: Sequence[Sample], folder: Path) -> None:
    """Make a dataset folder of these images, by links to their files."""
    if folder.exists():
        sys.exit(f"{folder} exists. Choose another folder, or remove it.")
    for sample in samples:
        files = {"images": sample.image, "points": sample.points, "boxes": sample.boxes, "regions": sample.regions}
        for name, file in files.items():
            if file is not None:
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / file.name).symlink_to(file.resolve())
    columns = ("stem", "source", "modality", "experiment", "licence")
    save_table([{c: getattr(s, c) for c in columns} for s in samples], folder / "manifest.csv")


def report(rows: Sequence[dict[str, object]]) -> None:
    """Print F1 and the share of marked cells that are found, of each source and network, and what the last gains."""
    for source, diameter in sorted({(str(row["source"]), str(row["diameter"])) for row in rows}):
        its = [row for row in rows if (row["source"], row["diameter"]) == (source, diameter)]
        ways = {way: [row for row in its if row["way"] == way] for way in dict.fromkeys(str(r["way"]) for r in its)}
        for way, of_way in ways.items():
            f1s = [_f1(row) for row in of_way]
            found, marked = (sum(_number(row, name) for row in of_way) for name in ("right", "n_true"))
            print(f"{source:8s} diameter {diameter:12s} {way:25s} F1 mean {np.mean(f1s):.3f}, median ", end="")
            print(f"{np.median(f1s):.3f} ({len(f1s)} images); of {marked:.0f} marked cells {found:.0f} are found")
        first, *others = ways.values()
        for what, of_image in (("F1", _f1), ("share of marked cells found", _found)) if others else ():
            print(f"{source:8s} diameter {diameter:12s} {what}: {_gain(first, others[-1], of_image)}")


def _gain(
    before: Sequence[dict[str, object]],
    after: Sequence[dict[str, object]],
    of_image: Callable[[dict[str, object]], float],
) -> str:
    """The mean gain over images in which people marked a cell, and its interval."""
    pairs = [pair for pair in zip(after, before, strict=True) if _number(pair[0], "n_true")]
    gains, stems = [of_image(one) - of_image(other) for one, other in pairs], [str(one["stem"]) for one, _ in pairs]
    drawn = bootstrap(gains, stems, stems)
    if drawn is None:
        return "one image alone tells nothing"
    low, high = np.quantile(drawn[0], (0.025, 0.975))
    return f"gain {np.mean(gains):+.3f} ({low:+.3f} to {high:+.3f}, {len(set(stems))} images resampled)"


def _f1(row: dict[str, object]) -> float:
    return _number(row, "f1")


def _found(row: dict[str, object]) -> float:
    return _number(row, "right") / _number(row, "n_true")


def _number(row: dict[str, object], name: str) -> float:
    return float(str(row[name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("weak", type=Path, help="a folder with images/ and points/ or boxes/")
    parser.add_argument("--representation", default="canopy")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", nargs="+", choices=(WITHOUT, WITH), default=(WITHOUT, WITH), help="train only these")
    parser.add_argument("--link", type=Path, metavar="DIR", help="only make a dataset folder of what is learned from")
    parser.add_argument("--model", nargs="+", help="score these models; train none")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    labelled = [sample for sample in open_dataset(arguments.labelled) if sample.labels]
    weak = sorted((s for s in open_dataset(arguments.weak) if s.points or s.boxes), key=lambda s: s.stem)
    overlap = {s.source for s in labelled} & {s.source for s in weak}
    if overlap:
        sys.exit(f"{', '.join(sorted(overlap))} has labels as well: nothing would be learned of weak labels alone.")
    if (arguments.link or arguments.model) and len(arguments.seed) > 1:
        sys.exit("Give one --seed with --link and --model: each leaves other images out.")
    rows: list[dict[str, object]] = []

    def score(segmenter: Segmenter, way: str, test: Sequence[Sample], minutes: float | str, seed: int) -> None:
        for sample, diameter, count in judge(segmenter, test):
            facts = {"way": way, "stem": sample.stem, "source": sample.source, "diameter": diameter}
            facts |= {"n_true": count.n_true, "n_predicted": count.n_predicted, "right": count.true_positives}
            rows.append(facts | {"f1": f1(count), "minutes": minutes, "seed": seed})

    for seed in arguments.seed:
        test, pool = parts(weak, seed)
        if arguments.link:
            link(pool, arguments.link)
            return
        if arguments.model:
            for model in arguments.model:
                score(Segmenter.load(model), model, test, "", seed)
            continue
        ways = {
            WITHOUT: (Part(name="supervised"), []),
            WITH: (Part(name="consensus", settings={"images": len(pool), "at": [0.4, 0.7]}), pool),
        }
        for way, (objective, others) in ((way, ways[way]) for way in arguments.ways):
            settings = {"representation": arguments.representation, "objective": objective.model_dump()}
            recipe = load_recipe(None, minutes=arguments.minutes, seed=seed, **settings)
            with tempfile.TemporaryDirectory() as folder:
                model = fit(recipe, [*labelled, *others], Path(folder) / "run")
                score(Segmenter.load(model), way, test, arguments.minutes, seed)
    report(rows)
    save_rows(rows, arguments.out)


if __name__ == "__main__":
    main()
