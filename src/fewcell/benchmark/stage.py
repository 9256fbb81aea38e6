"""One stage of one run, in a process of its own: `python -m fewcell.benchmark.stage train|score PLAN OUT KEY`.

A process a stage, so that a run that dies takes no other with it, and so that the peak memory of scoring is its own.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewcell.benchmark.evaluate import Evaluation, Row
from fewcell.benchmark.examples import segment_examples
from fewcell.benchmark.plan import Run, load_plan, runs_of, samples_of
from fewcell.benchmark.provenance import commit_of_source, machine_name
from fewcell.benchmark.summary import HEADLINE_MODALITIES, Group, summarise
from fewcell.benchmark.tables import read_table, row_columns, save_table
from fewcell.benchmark.trust import JudgedImage, calibration_error, judge_image, score_table, threshold_table
from fewcell.data.dataset import Sample, load_labelled, read_truth
from fewcell.engine import Engine
from fewcell.errors import ConfigError, FewcellError
from fewcell.family import end_with_parent
from fewcell.images import peak_bytes, whole_file, write_labels
from fewcell.metrics import score_image
from fewcell.representations import Representation
from fewcell.segmenter import Segmenter
from fewcell.types import FloatArray, Instances

__all__ = [
    "FACTS_FILE",
    "IMAGES_FILE",
    "ROW_FILE",
    "SCORES_FILE",
    "THRESHOLDS_FILE",
    "find_run",
    "score",
    "spent",
    "train",
]

FACTS_FILE = "facts.json"
ROW_FILE = "row.csv"
IMAGES_FILE = "images.csv"
SCORES_FILE = "scores.csv"
THRESHOLDS_FILE = "thresholds.csv"


def find_run(plan: Path | str, key: str) -> Run:
    """The run of a plan that has this key. Raises ConfigError if there is none."""
    for run in runs_of(load_plan(plan)):
        if run.key == key:
            return run
    raise ConfigError(f"The plan {plan} has no run {key!r}.")


def train(run: Run, models: Path) -> None:
    """Train the model of a run into `models`/<training>/model, going on from a checkpoint if there is one."""
    from fewcell.networks import make_network
    from fewcell.representations import make_representation
    from fewcell.training.fit import fit
    from fewcell.training.state import CHECKPOINT_FILE

    learn, _ = samples_of(run)
    folder, recipe = models / run.training, run.recipe
    commit = commit_of_source()
    if run.before:
        start = str((models / run.before.training / "model").resolve())
        recipe = recipe.model_copy(update={"start": start, "keep_start": False})
    fit(recipe, learn, folder, resume=(folder / CHECKPOINT_FILE).exists())
    if int(os.environ.get("RANK", "0")) > 0:
        return
    part = recipe.network
    channels = make_representation(recipe.representation.name, recipe.representation.settings).channels
    network = make_network(part.name, len(channels), part.settings)
    facts = {
        "commit": commit,
        "machine": machine_name(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "labelled_images": sum(sample.labels is not None for sample in learn),
        "experiments": sorted({sample.experiment for sample in learn}),
    }
    with whole_file(folder / FACTS_FILE, overwrite=True) as temporary:
        temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def score(run: Run, models: Path, folder: Path) -> None:
    """Segment test images and examples with the model of a run; write labels, a row an image, the row of the run."""
    _, test = samples_of(run)
    trained = models / run.training
    facts = json.loads((trained / FACTS_FILE).read_text(encoding="utf-8"))
    segmenter = Segmenter.load(trained / "model")
    watch = _Watch()
    segmenter.engine = _TimedEngine(segmenter.engine, watch)
    segmenter.representation = _TimedDecoding(segmenter.representation, watch)  # pyright: ignore[reportAttributeAccessIssue]
    rows, lines, judged = [], [], []
    for sample in test:
        row, line, image = _score_one(sample, segmenter, run, watch, folder, facts["experiments"])
        rows.append(row)
        lines.append({"run": run.key} | row_columns(row) | line)
        judged.append(image)
    save_table(lines, folder / IMAGES_FILE, overwrite=True)
    for name, table in ((SCORES_FILE, score_table(judged)), (THRESHOLDS_FILE, threshold_table(judged))):
        save_table([{"run": run.key} | line for line in table], folder / name, overwrite=True)
    summary = _summary_columns(Evaluation(tuple(rows), (), None)) | _trust_columns(judged)
    row_of_run = _run_columns(run, facts, models) | summary | _cost_columns(lines)
    segment_examples(segmenter, folder, lambda true_px: _given(run, segmenter, true_px))
    save_table([row_of_run], folder / ROW_FILE, overwrite=True)


def _score_one(
    sample: Sample, segmenter: Segmenter, run: Run, watch: "_Watch", folder: Path, experiments: Sequence[str]
) -> tuple[Row, dict[str, object], JudgedImage]:
    """The row of one test image, what it cost, and its scores. An image that fails counts as one without cells."""
    assert sample.labels is not None
    problem, start = "", time.perf_counter()
    before = dict(watch.seconds)
    diameter = float("nan")
    try:
        image, truth, true_px = load_labelled(sample)
        given = _given(run, segmenter, true_px)
        start = time.perf_counter()
        found = segmenter.segment(image, diameter_px=given, min_score=0)
        instances, diameter = found.instances, found.diameter_px
    except FewcellError as error:
        problem, truth = str(error), read_truth(sample.labels, sample.regions)
        instances = Instances.none((truth.shape[0], truth.shape[1]))
    seconds = time.perf_counter() - start
    labels = instances.of_score(segmenter.facts.min_score).labels
    write_labels(folder / "labels" / f"{sample.stem}_label.tiff", labels, overwrite=True)
    row = Row(
        stem=sample.stem,
        source=sample.source,
        modality=sample.modality,
        subject="unknown",
        experiment=sample.experiment,
        seen=sample.experiment in experiments,
        scores=score_image(truth, labels),
        problem=problem,
    )
    spent = {f"{part}_s": watch.seconds[part] - before[part] for part in before}
    line: dict[str, object] = {"megapixels": truth.size / 1e6, "diameter_px": diameter, "seconds": seconds, **spent}
    return row, line, judge_image(truth, instances, row.modality, bool(row.seen))


def _given(run: Run, segmenter: Segmenter, true_px: float | None) -> float | None:
    """The diameter that a model is given in this run: None if it has to estimate it."""
    return {"true": true_px, "estimated": None, "none": segmenter.facts.canonical_diameter_px}[run.diameter]


def _run_columns(run: Run, facts: dict, models: Path) -> dict[str, object]:
    """What a run is. Minutes and steps are those of the run that it began with besides."""
    recipe, parts_of_run = run.recipe, [run.before, run] if run.before else [run]
    steps, seconds = (sum(part) for part in zip(*(spent(models / r.training) for r in parts_of_run), strict=True))
    parts = {name: getattr(recipe, name) for name in ("network", "representation", "objective")}
    settings = {name: part.settings for name, part in parts.items() if part.settings}
    settings |= {"recipe": run.own} if run.own else {}
    return {
        "run": run.key,
        **{name: part.name for name, part in parts.items()},
        "settings": json.dumps(settings) if settings else "",
        "labels": "all" if run.labels is None else run.labels,
        "labelled_images": facts["labelled_images"],
        "seed": recipe.seed,
        "diameter": run.diameter,
        "minutes": recipe.minutes and recipe.minutes * len(parts_of_run),
        "trained_minutes": seconds / 60,
        "steps": steps,
        "images_seen": steps * recipe.batch,
        "parameters": facts["parameters"],
        "commit": facts["commit"],
        "machine": facts["machine"],
    }


def spent(trained: Path) -> tuple[int, float]:
    """Steps and seconds of a training, by its log."""
    last = read_table(trained / "log.csv")[-1]
    return int(last["step"]), float(last["seconds"])


def _summary_columns(evaluation: Evaluation) -> dict[str, object]:
    """Headlines first: means over the four modalities. Then all images alike, then each modality, seen and unseen."""
    summary = summarise(evaluation)
    groups = {(group.grouping, group.name): group for group in summary.groups}
    columns: dict[str, object] = {}
    for headline in summary.headlines:
        name = "" if headline.name == "all" else f"_{headline.name}"
        columns[f"f1_50{name}"] = headline.f1_50
        if headline.interval:
            columns |= {f"f1_50{name}_low": headline.interval.low, f"f1_50{name}_high": headline.interval.high}
    modalities = [groups.get(("modality", name)) for name in HEADLINE_MODALITIES]
    for score_name in ("f1_60", "f1_70", "f1_80", "f1_90", "ap_50", "pq"):
        known = [group.means[score_name] for group in modalities if group]
        columns[score_name] = float(np.mean(known)) if len(known) == len(modalities) else None
    for (grouping, name), group in groups.items():
        if grouping in ("all", "seen or unseen"):
            columns |= {f"{name}_images": group.n_images, f"{name}_images_f1_50": group.means["f1_50"]}
            columns |= {f"{name}_images_median_f1_50": group.median_f1_50}
        if grouping in ("modality", "modality, seen or unseen"):
            columns |= _group_columns(name.replace(", ", "_"), group)
    return columns


def _group_columns(name: str, group: Group) -> dict[str, object]:
    columns: dict[str, object] = {f"{name}_images": group.n_images, f"{name}_median_f1_50": group.median_f1_50}
    names = ("f1_50", "f1_60", "f1_70", "f1_80", "f1_90", "pq") if group.grouping == "modality" else ("f1_50",)
    return columns | {f"{name}_{score_name}": group.means[score_name] for score_name in names}


def _trust_columns(judged: Sequence[JudgedImage]) -> dict[str, object]:
    parts = {"": judged, "_seen": [i for i in judged if i.seen], "_unseen": [i for i in judged if not i.seen]}
    return {f"calibration_error{name}": calibration_error(images) for name, images in parts.items()}


def _cost_columns(lines: Sequence[dict]) -> dict[str, object]:
    megapixels = sum(line["megapixels"] for line in lines)
    columns: dict[str, object] = {
        f"{name}_s_per_mpx": sum(line[key] for line in lines) / megapixels
        for name, key in (("total", "seconds"), ("network", "network_s"), ("decode", "decode_s"))
    }
    columns |= {kind: sum(line[kind] for line in lines) for kind in ("missed", "split", "merged", "badly_outlined")}
    columns |= {"false": sum(line["false"] for line in lines), "true_cells": sum(line["n_true"] for line in lines)}
    peak = peak_bytes()
    return columns | {"peak_memory_mb": None if peak is None else peak / 1e6}


@dataclass
class _Watch:
    """Seconds spent in each part."""

    seconds: dict[str, float] = field(default_factory=lambda: {"network": 0.0, "decode": 0.0})

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


@dataclass
class _TimedEngine:
    engine: Engine
    watch: _Watch

    def __call__(self, image: FloatArray) -> FloatArray:
        with self.watch.timing("network"):
            return self.engine(image)


@dataclass
class _TimedDecoding:
    """A representation whose decoding is timed; all else is its own."""

    representation: Representation
    watch: _Watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.representation, name)

    def decode(self, prediction: FloatArray) -> Instances:
        with self.watch.timing("decode"):
            return self.representation.decode(prediction)


def _main(stage: str, plan: str, out: str, key: str) -> None:
    run = find_run(plan, key)
    models = Path(out) / "models"
    if stage == "train":
        train(run, models)
    else:
        score(run, models, Path(out) / "scores" / run.key)


if __name__ == "__main__":
    end_with_parent()
    try:
        _main(*sys.argv[1:])
    except FewcellError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
