"""What a few labelled images of a new source teach the model inside the package, and what it forgets over them.

    python benchmarks/adapt.py ../shared/data/test --out docs/results/adapt.csv
    python benchmarks/adapt.py ../shared/data/test --may-forget --out docs/results/adapt-may-forget.csv

For each source a few labelled images are learned from, as by `fewcell train DATA --from-model default`. Scored before
and after, at the true diameter: the source's other images, and all images of other sources, which show what was
forgotten. One row an image. Printed for each source: mean F1 at IoU 0.5 before and after, how far the weights went and
what is still found in drawn images (`fewcell.training.blend`), how far the mean over the four modalities of the other
sources has moved, and each modality of these. With --unlabelled the source's other images, which are scored, are
learned from as well, without their labels.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rows import save_rows

from fewcell.benchmark import HEADLINE_MODALITIES
from fewcell.config import load_recipe
from fewcell.data.dataset import Sample, diameter_px, load_labelled, open_dataset
from fewcell.metrics import f1, match, remove_border
from fewcell.segmenter import Segmenter, read_model
from fewcell.training.blend import recipe_from
from fewcell.training.fit import fit

SOURCES = ("coelho-ic100=5", "cpm15=5", "deepliif=2", "bitdepth=5", "ecolifl=2")


def scores(segmenter: Segmenter, samples: Sequence[Sample]) -> dict[str, float]:
    """F1 of each image that can be scored, by its stem."""
    found = {}
    for sample in samples:
        image, truth, _ = load_labelled(sample)
        if remove_border(truth).max(initial=0) > 0:
            labels = segmenter.segment(image, diameter_px=diameter_px(truth)).labels
            found[sample.stem] = f1(match(truth, labels))
    return found


def headline(f1s: dict[str, float], samples: Sequence[Sample]) -> float:
    """The mean over modalities of their mean F1."""
    by_modality = [[f1s[s.stem] for s in samples if s.modality == m and s.stem in f1s] for m in HEADLINE_MODALITIES]
    return float(np.mean([np.mean(values) for values in by_modality if values]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("--learn", nargs="+", default=SOURCES, help="sources, and how many images of each: cpm15=5")
    parser.add_argument("--model", default="default")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--unlabelled", action="store_true")
    parser.add_argument("--may-forget", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    samples = [sample for sample in open_dataset(arguments.dataset) if sample.labels]
    before = scores(Segmenter.load(arguments.model), samples)
    base = recipe_from(arguments.model, unlabelled=arguments.unlabelled)
    forgets = {"still_found": 0.0} if arguments.may_forget else {}
    recipe = load_recipe(None, base=base, minutes=arguments.minutes, seed=arguments.seed, **forgets)
    rows = []
    for source, _, number in (given.partition("=") for given in arguments.learn):
        count = int(number)
        new = sorted((s for s in samples if s.source == source), key=lambda s: s.stem)
        order = np.random.default_rng(arguments.seed).permutation(len(new))
        learn, rest = [new[i] for i in order[:count]], [new[i] for i in order[count:]]
        old = [s for s in samples if s.source != source]
        pool = [replace(s, labels=None) for s in rest] if arguments.unlabelled else []
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            model = fit(recipe, [*learn, *pool], Path(folder) / "run")
            minutes = (time.perf_counter() - began) / 60
            after = scores(Segmenter.load(model), [*rest, *old])
            held_out = read_model(model).held_out
            share, still_found = held_out["share"], held_out.get("still_found", 1.0)
        of_rest = [s.stem for s in rest if s.stem in before]
        means = [np.mean([f1s[stem] for stem in of_rest]) for f1s in (before, after)]
        moved = headline(after, old) - headline(before, old)
        way = f"{share:.2f} of the way, {still_found:.3f} still found"
        print(
            f"{source:13s} {count} images, {minutes:.1f} minutes: F1 {means[0]:.3f} before, {means[1]:.3f} after "
            f"({len(of_rest)} images; {way}); other sources {moved:+.3f}",
            flush=True,
        )
        for modality in sorted({s.modality for s in old}):
            its = [s.stem for s in old if s.modality == modality and s.stem in before]
            change = np.mean([after[stem] - before[stem] for stem in its])
            print(f"    {modality:13s} {change:+.3f} ({len(its)} images)", flush=True)
        facts = {"learned_from": source, "images": count, "minutes": minutes, "share": share}
        facts |= {"still_found": still_found, "seed": arguments.seed}
        for sample in (s for s in [*rest, *old] if s.stem in before):
            known = {"stem": sample.stem, "source": sample.source, "modality": sample.modality}
            known |= {"experiment": sample.experiment, "before": before[sample.stem], "after": after[sample.stem]}
            rows.append(facts | known)
    save_rows(rows, arguments.out, model=arguments.model)


if __name__ == "__main__":
    main()
