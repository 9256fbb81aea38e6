"""By how much one run of a comparison is above another, for every score, experiments resampled in pairs.

    python benchmarks/difference.py docs/results/few-labels consensus after_supervised_7da60540
    python benchmarks/difference.py docs/results/unseen docs/results/networks c0f434d0 e3f97d69

Folders hold the tables that `fewcell benchmark` wrote; runs are named by any part of their names that no other has,
several seeds of one run with commas between, of which each image's mean counts.
Printed for each score, of all images and of unseen experiments: the headline (the mean over four modalities) of both
runs, the difference, and the 95 % interval of the difference.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewcell.benchmark import HEADLINE_MODALITIES, bootstrap_groups

SCORES = ("f1_50", "f1_60", "f1_70", "f1_80", "f1_90", "pq")
Line = dict[str, str]


def headline(lines: Sequence[Line], score: str) -> tuple[float, NDArray[np.float64]]:
    """The mean over modalities of the mean over images, and the same of many draws of experiments."""
    groups = [
        [(float(line[score]), line["experiment"], line["stem"]) for line in lines if line["modality"] == modality]
        for modality in HEADLINE_MODALITIES
    ]
    drawn = bootstrap_groups(groups)
    if drawn is None:
        sys.exit(f"There are too few images of one of {', '.join(HEADLINE_MODALITIES)} to compare.")
    return float(np.mean([np.mean([value for value, *_ in group]) for group in groups])), drawn[0]


def mean_of(lines: Sequence[Line]) -> Line:
    """One line of an image for those of several runs, with their mean scores."""
    return lines[0] | {score: str(np.mean([float(line[score]) for line in lines])) for score in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders with images.csv")
    parser.add_argument("runs", nargs=2, metavar="RUN", help="a part of the name of a run that no other has")
    arguments = parser.parse_args()

    lines: list[Line] = []
    for folder in arguments.results:
        with open(folder / "images.csv", newline="", encoding="utf-8") as file:
            known = {line["run"] for line in lines}
            lines += [line for line in csv.DictReader(file) if line["scorable"] == "yes" and line["run"] not in known]
    names = sorted({line["run"] for line in lines})
    runs = []
    for part in arguments.runs:
        seeds = []
        for one in part.split(","):
            fits = [name for name in names if one in name]
            if len(fits) != 1:
                sys.exit(f"{one!r} is part of {len(fits)} names; there are {', '.join(names)}.")
            seeds.append(sorted((line for line in lines if line["run"] == fits[0]), key=lambda line: line["stem"]))
        runs.append([mean_of(same) for same in zip(*seeds, strict=True)])
    images = [[(line["stem"], line["experiment"], line["seen"]) for line in run] for run in runs]
    if images[0] != images[1]:
        sys.exit("The two runs were not scored on the same images.")
    for seen in (None, "unseen"):
        of_both = [[line for line in run if seen in (None, line["seen"])] for run in runs]
        for score in SCORES:
            (one, of_one), (other, of_other) = (headline(its, score) for its in of_both)
            low, high = np.quantile(of_one - of_other, (0.025, 0.975))
            print(
                f"{seen or 'all':6s} {score:5s} {one:.3f} {other:.3f}  {one - other:+.3f} ({low:+.3f} to {high:+.3f})"
            )


if __name__ == "__main__":
    main()
