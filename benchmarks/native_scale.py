"""A dataset whose images are all said to be at canonical scale, so that training sees each of them as it is.

    python benchmarks/native_scale.py ../shared/data/train runs/native-scale

Images and labels are links to those of the dataset; its manifest gives every image one diameter, the canonical one.
"""

import argparse
import csv
from pathlib import Path

from fewcell.config import Recipe
from fewcell.data.dataset import open_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    samples = open_dataset(arguments.data)
    arguments.out.mkdir(parents=True)
    for name in ("images", "labels"):
        (arguments.out / name).symlink_to((arguments.data / name).resolve(), target_is_directory=True)
    diameter_px = Recipe.model_fields["canonical_diameter_px"].default
    facts = ("stem", "source", "modality", "experiment", "licence")
    with open(arguments.out / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*facts, "diameter_px"])
        writer.writeheader()
        for sample in samples:
            writer.writerow({**{fact: getattr(sample, fact) for fact in facts}, "diameter_px": diameter_px})


if __name__ == "__main__":
    main()
