"""How right a teacher's labels are: compared with true ones that were set aside.

    fewcell benchmark plans/few-labels.toml -o OUT
    python benchmarks/teacher.py plans/few-labels.toml OUT --out docs/results/teacher.csv

The model of the plan's first run labels images of the same dataset whose labels that run was not given, as it does in
a round of `consensus`: twice, with background where no view gives a pixel a foreground of 0.15 or more, and where no
view finds a cell, whatever its foreground (doubt 2). One row an image and rule: how many cells are kept, how many of
them are right (an IoU of 0.5 or more with a true one, of those on what people annotated), and of the pixels of true
cells and of true background in the part that the teacher looked at, how many are taught as cell and as background.
Images of which no cell is kept are not learned from ("used": no), and left out of what is printed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rows import save_rows

from fewcell.benchmark import load_plan, runs_of
from fewcell.benchmark.plan import samples_of
from fewcell.data.dataset import Sample, load_labelled, open_dataset
from fewcell.data.split import label_order
from fewcell.metrics import overlaps
from fewcell.segmenter import Segmenter
from fewcell.training import proposals
from fewcell.training.lessons import split
from fewcell.training.teacher import Teacher
from fewcell.types import Labels

KEEP = 0.7


def compare(truth: Labels, taught: Labels) -> dict[str, int]:
    """How right taught labels are: counts of cells and of pixels."""
    table = overlaps(truth, np.maximum(taught, 0))
    right, known = table.right_and_known()
    pixels = {
        f"{true}_px{suffix}": int(np.count_nonzero(of_kind & of_taught))
        for true, of_kind in (("cell", truth > 0), ("background", truth == 0))
        for suffix, of_taught in (
            ("", np.ones_like(taught, dtype=bool)),
            ("_as_cell", taught > 0),
            ("_as_background", taught == 0),
        )
    }
    return {"true": table.n_true, "kept": int(known.sum()), "right": int(right.sum())} | pixels


def report(rows: Sequence[dict[str, object]]) -> None:
    """Print a line for each rule and modality."""

    def total(name: str, which: Sequence[dict[str, object]]) -> int:
        return sum(int(str(row[name])) for row in which)

    def share(name: str, of: str, which: Sequence[dict[str, object]]) -> float:
        shares = [int(str(row[name])) / int(str(row[of])) for row in which if int(str(row[of]))]
        return float(np.mean(shares)) if shares else float("nan")

    for doubt in sorted({float(str(row["doubt"])) for row in rows}):
        for modality in sorted({str(row["modality"]) for row in rows}):
            its = [
                row for row in rows if row["doubt"] == doubt and row["modality"] == modality and row["used"] == "yes"
            ]
            print(
                f"doubt {doubt:4g}  {modality:13s} {len(its):3d} images, of {total('true', its)} cells "
                f"{total('kept', its)} kept, {total('right', its) / max(total('kept', its), 1):.3f} of these right; of "
                f"cells' pixels {share('cell_px_as_cell', 'cell_px', its):.2f} taught as cell and "
                f"{share('cell_px_as_background', 'cell_px', its):.3f} as background, of background's "
                f"{share('background_px_as_background', 'background_px', its):.2f} and "
                f"{share('background_px_as_cell', 'background_px', its):.3f} as cell"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, help="a plan whose first run has some of the labels")
    parser.add_argument("results", type=Path, help="what `fewcell benchmark` wrote for it")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    run = runs_of(load_plan(arguments.plan))[0]
    samples, _ = samples_of(run)
    _, held_out = split(run.recipe, [sample for sample in samples if sample.labels])
    labels_of = {(s.source, s.stem): s.labels for s in open_dataset(run.plan.data) if s.labels}
    pool: list[Sample] = [s for s in samples if not s.labels and (s.source, s.stem) in labels_of]
    segmenter = Segmenter.load(arguments.results / "models" / run.training / "model")
    teacher = Teacher(segmenter, held_out, KEEP)
    print(f"On held-out parts {teacher.precision:.3f} of the kept cells are right.")
    rows: list[dict[str, object]] = []
    for doubt in (proposals.DOUBT, 2.0):
        proposals.DOUBT = doubt
        for sample in (pool[i] for i in label_order(pool)[: arguments.images]):
            lesson = teacher.label(sample)
            image = replace(sample, labels=labels_of[sample.source, sample.stem])
            _, truth, _ = load_labelled(image)
            top, left, bottom, right = lesson.window
            part = (slice(top, bottom), slice(left, right))
            facts: dict[str, object] = {
                "doubt": doubt,
                "stem": sample.stem,
                "source": sample.source,
                "modality": sample.modality,
            }
            facts["used"] = "yes" if lesson.n_kept else "no"
            rows.append(facts | {"found": lesson.n_found} | compare(truth[part], lesson.labels[part]))
    report(rows)
    save_rows(rows, arguments.out, run=run.training)


if __name__ == "__main__":
    main()
