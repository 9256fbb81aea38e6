"""How far the scores of a model can be trusted: of the cells with a score of about 0.8, are 80 % right?

    python benchmarks/calibration.py ../shared/data/test --out docs/results/calibration.csv

Each labelled image is segmented with every score kept, once with the true median diameter and once as users do who do
not know it. Printed: the expected calibration error over 20 ranges of scores, for experiments of which the manifest has
training images and for others. A row of the CSV is one range: cells found in it, how many are right (an IoU of 0.5 or
more with a true cell), their mean score. With the estimate, low ranges hold fewer cells than they would: much larger
cells below the model's threshold are never kept, and an image in which no cell is sure has none.
"""

import argparse
from pathlib import Path

from rows import save_rows

from fewcell.benchmark.trust import JudgedImage, calibration_error, judge_image, score_table
from fewcell.data.dataset import diameter_px, find_manifest, load_labelled, open_dataset, read_manifest
from fewcell.segmenter import Segmenter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    entries = read_manifest(find_manifest(arguments.dataset))
    trained = {entry["experiment"] for entry in entries if entry.get("split") == "train"}
    segmenter = Segmenter.load(arguments.model)
    judged: dict[str, list[JudgedImage]] = {"true": [], "estimated": []}
    for sample in open_dataset(arguments.dataset):
        if not sample.labels:
            continue
        image, truth, _ = load_labelled(sample)
        if diameter_px(truth) is None:
            continue
        for diameter, given in (("true", diameter_px(truth)), ("estimated", None)):
            found = segmenter.segment(image, diameter_px=given, min_score=0)
            seen = sample.experiment in trained
            judged[diameter].append(judge_image(truth, found.instances, sample.modality, seen))
    rows = []
    for diameter, images in judged.items():
        for seen, name in ((True, "seen"), (False, "unseen")):
            error = calibration_error([image for image in images if image.seen is seen])
            print(f"{diameter:9s} diameter, {name:6s} experiments: {'-' if error is None else f'{error:.3f}'}")
        rows += [{"diameter": diameter} | row for row in score_table(images)]
    save_rows(rows, arguments.out, model=arguments.model)


if __name__ == "__main__":
    main()
