"""What the precision of the network and a look from four sides at two scales bring, and what they cost.

    python benchmarks/precision.py ../shared/data/train --out docs/results/precision.csv

The images are those of train that were held out when the model was trained (at most 1.5 megapixels), at the true scale.
Speed is that of the network alone, on a tile of 1,280 px, the best of several turns that the ways take one by one.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from rows import save_rows

from fewcell.data.dataset import load_labelled, open_dataset
from fewcell.engine import offered_precisions
from fewcell.metrics import count_matches, f1, scored_overlaps
from fewcell.segmenter import INT8_FILE, Segmenter
from fewcell.training.lessons import parts_of

SIDE_PX, TURNS, MOST_PX = 1280, 5, 1_500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the dataset that the model was trained on")
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    facts = Segmenter.load(arguments.model).facts
    offered = offered_precisions(has_int8=INT8_FILE in facts.sha256)
    ways = {
        (precision, accurate): Segmenter.load(arguments.model, precision=precision, accurate=accurate)
        for precision in offered
        for accurate in (False, True)
    }
    image = np.random.default_rng(0).random((3, SIDE_PX, SIDE_PX), dtype=np.float32)
    best = dict.fromkeys(ways, np.inf)
    for _ in range(TURNS):
        for way, segmenter in ways.items():
            start = time.perf_counter()
            segmenter.engine(image)
            best[way] = min(best[way], time.perf_counter() - start)
    reached: dict[tuple[str, bool], list[list[float]]] = {way: [] for way in ways}
    for sample in parts_of(facts, open_dataset(arguments.data))[1]:
        picture, truth, true_px = load_labelled(sample)
        if true_px is None or truth.size > MOST_PX:
            continue
        for way, segmenter in ways.items():
            table = scored_overlaps(truth, segmenter.segment(picture, diameter_px=true_px).labels)
            counts = [count_matches(table, threshold) for threshold in (0.5, 0.8)]
            reached[way] += [[f1(one) for one in counts]] if counts[0].n_true else []  # else the frame cuts all cells
    rows: list[dict[str, object]] = []
    for (precision, accurate), values in reached.items():
        f1_50, f1_80 = np.mean(values, axis=0)
        speed = SIDE_PX**2 / 1e6 / best[precision, accurate]
        row = {"precision": precision, "accurate": accurate, "mpx_per_s": speed, "f1_50": f1_50, "f1_80": f1_80}
        rows.append({**row, "n_images": len(values)})
        print(f"{precision:5s} accurate {accurate!s:5s} {speed:6.2f} Mpx/s  F1 {f1_50:.4f}  at 0.8 {f1_80:.4f}")
    save_rows(rows, arguments.out, model=arguments.model)


if __name__ == "__main__":
    main()
