"""What a benchmark left behind, read back: methods, their runs, and the images on which they were scored."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fewcell.benchmark import HEADLINE_MODALITIES, Interval, bootstrap_groups
from fewcell.benchmark.summary import Resampled
from fewcell.benchmark.tables import read_table
from fewcell.errors import DataError
from fewcell.metrics import MISTAKES

__all__ = ["DIAMETERS", "Line", "Method", "Results", "load_results", "said_settings"]

SAME = ("network", "representation", "objective", "settings", "labels", "length", "diameter")
DIAMETERS = {"true": "true diameter", "estimated": "estimated diameter", "none": "not brought to scale"}
NOTE_FILE = "note.txt"
Line = Mapping[str, str]


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but the seed.

    name: what tells the method from the others of the report. rows: a line a run; `length` is how long it learned, in
    minutes, or in steps where these were given. images: a line a run and test image.
    curves: for each run, (minutes, held-out F1) pairs. scores, thresholds: lines of those tables, of all runs; none
    where a folder is older than these tables.
    """

    name: str
    rows: tuple[Line, ...]
    images: tuple[Line, ...]
    curves: tuple[tuple[tuple[float, float], ...], ...]
    folder: Path
    scores: tuple[Line, ...] = ()
    thresholds: tuple[Line, ...] = ()

    @property
    def representation(self) -> str:
        return self.rows[0]["representation"]

    @property
    def network(self) -> str:
        return self.rows[0]["network"]

    @property
    def seeds(self) -> set[str]:
        return {row["seed"] for row in self.rows}

    @property
    def scored(self) -> list[Line]:
        """The lines of images that count: those in which some true cell is whole."""
        return [line for line in self.images if line["scorable"] == "yes"]

    @property
    def stems(self) -> set[str]:
        """The images on which it was scored."""
        return {line["stem"] for line in self.scored}

    def of_seeds(self, seeds: Collection[str]) -> "Method":
        """The method as its runs of these seeds alone show it; curves and scores are left as they are."""
        rows = tuple(row for row in self.rows if row["seed"] in seeds)
        runs = {row["run"] for row in rows}
        return replace(self, rows=rows, images=tuple(line for line in self.images if line["run"] in runs))

    def mean(self, column: str) -> float | None:
        """The mean of a column over seeds; None where a run has no such figure."""
        values = [row.get(column, "") for row in self.rows]
        return None if "" in values else float(np.mean([float(value) for value in values]))

    @property
    def has_headline(self) -> bool:
        """Whether it was scored on images of all modalities of the headline; if not, all images count alike."""
        return self.mean("f1_50") is not None

    def overall(self, seen: str | None = None) -> float | None:
        """The headline F1 at IoU 0.5, or the mean over all images, see `has_headline`. seen: of these alone."""
        if self.has_headline:
            return self.mean(f"f1_50_{seen}" if seen else "f1_50")
        return self.mean(f"{seen or 'all'}_images_f1_50")

    def interval(self, modality: str | None = None) -> Interval | None:
        """The 95 % interval of the mean F1 at IoU 0.5 of a modality, or of `overall`; experiments resampled."""
        resampled = self.resampled(modality)
        return None if resampled is None else Interval.of(*resampled)

    def resampled(self, modality: str | None = None, seen: str | None = None) -> Resampled | None:
        """The mean F1 at IoU 0.5 of a modality, or `overall`, in each of many draws of experiments.

        seen: of "seen" or "unseen" images only. Methods that were scored on the same images have the same draws, so
        that differences are paired. None where a modality has no image, or but one.
        """
        scored = [line for line in self.scored if seen is None or line["seen"] == seen]
        names = ((*HEADLINE_MODALITIES,) if self.has_headline else (None,)) if modality is None else (modality,)
        groups = [[line for line in scored if name in (None, line["modality"])] for name in names]
        return bootstrap_groups([(float(i["f1_50"]), i["experiment"], i["stem"]) for i in group] for group in groups)

    def ahead_of(self, other: "Method") -> tuple[float, Interval] | None:
        """How far its `overall` F1 is above that of another, with the 95 % interval; experiments resampled in pairs.

        Runs of the same seeds are compared; None where the methods share no seed, or were scored on other images.
        """
        seeds = self.seeds & other.seeds
        if not seeds:
            return None
        mine, theirs = self.of_seeds(seeds), other.of_seeds(seeds)
        own, others, means = mine.resampled(), theirs.resampled(), (mine.overall(), theirs.overall())
        if own is None or others is None or means[0] is None or means[1] is None or mine.stems != theirs.stems:
            return None
        return means[0] - means[1], Interval.of(own[0] - others[0], own[1])

    def mistakes(self) -> dict[str, float]:
        """How many cells went wrong in each way, per 100 true cells."""
        total = sum(int(line["n_true"]) for line in self.images)
        return {kind: 100 * sum(int(line[kind]) for line in self.images) / max(total, 1) for kind in MISTAKES}


@dataclass(frozen=True)
class Results:
    """Every method of a comparison, the best first, and what they have in common.

    notes: what a reader must know of the figures, as the folders' note.txt says.
    """

    methods: tuple[Method, ...]
    modalities: tuple[str, ...]
    n_images: int
    machines: tuple[str, ...]
    commits: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """What methods are compared by, in words that follow "the mean F1 over"."""
        return ", ".join(HEADLINE_MODALITIES) if self.methods[0].has_headline else "all images"

    @cached_property
    def as_good(self) -> list[str]:
        """The names of the methods that cannot be told from the best, as far as they can be compared with it.

        The interval of the difference holds 0.
        """
        best, *others = self.methods
        ahead = [(other.name, best.ahead_of(other)) for other in others]
        return [name for name, by in ahead if by is not None and by[1].low <= 0]


def load_results(folders: Sequence[Path]) -> Results:
    """Read the tables that `fewcell benchmark` wrote into one or more folders.

    Raises DataError if a table is missing, there is no finished run, or runs were not scored on the same images.
    """
    methods = [method for folder in folders for method in _methods(folder)]
    if not methods:
        raise DataError(f"There is no finished run in {', '.join(map(str, folders))}.")
    for method in methods:
        if method.stems != methods[0].stems:
            raise DataError(
                f"{methods[0].name} in {methods[0].folder} and {method.name} in {method.folder} were scored on "
                f"different images ({len(methods[0].stems)} and {len(method.stems)}), so that they cannot be compared. "
                "Make a report of each."
            )
    methods.sort(key=lambda method: -(method.overall() or 0))
    names = {line["modality"] for method in methods for line in method.scored}
    others = tuple(sorted(names - set(HEADLINE_MODALITIES)))
    return Results(
        methods=_told_apart(methods),
        modalities=tuple(name for name in HEADLINE_MODALITIES if name in names) + others,
        n_images=max(len(method.stems) for method in methods),
        machines=tuple(sorted({row["machine"] for method in methods for row in method.rows})),
        commits=tuple(sorted({row["commit"] for method in methods for row in method.rows})),
        notes=tuple(path.read_text("utf-8").strip() for folder in folders if (path := folder / NOTE_FILE).exists()),
    )


def _methods(folder: Path) -> list[Method]:
    rows, images, curves = (read_table(folder / f"{name}.csv") for name in ("rows", "images", "curves"))
    images_of, curves_of = _by_run(images), defaultdict(list)
    scores_of, thresholds_of = (
        _by_run(read_table(path) if (path := folder / f"{name}.csv").exists() else [])
        for name in ("scores", "thresholds")
    )
    for line in curves:
        if line["held_out_f1"]:
            curves_of[line["run"]].append((float(line["seconds"]) / 60, float(line["held_out_f1"])))
    groups: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for row in rows:
        row["length"] = f"{float(row['minutes']):g} min" if row["minutes"] else f"{int(row['steps']):,} steps"
        groups[tuple(row[column] for column in SAME)].append(row)
    return [
        Method(
            name=" + ".join((group[0]["network"], group[0]["representation"])),
            rows=tuple(group),
            images=tuple(line for row in group for line in images_of[row["run"]]),
            curves=tuple(tuple(curves_of[row["run"].rpartition("_")[0]]) for row in group),
            folder=folder,
            scores=tuple(line for row in group for line in scores_of[row["run"]]),
            thresholds=tuple(line for row in group for line in thresholds_of[row["run"]]),
        )
        for group in groups.values()
    ]


def _by_run(lines: Sequence[Line]) -> dict[str, list[Line]]:
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line["run"]].append(line)
    return groups


def _told_apart(methods: Sequence[Method]) -> tuple[Method, ...]:
    """The methods, the names of those that are alike followed by what differs; by settings and folder if need be."""
    told = [[method.name] for method in methods]
    for columns in (("objective", "labels", "length", "diameter"), ("settings",), ("folder",)):
        alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, words in enumerate(told):
            alike[tuple(words)].append(number)
        for numbers in alike.values():
            for column in columns:
                said = [_said(methods[number], column) for number in numbers]
                for number, word in zip(numbers, said, strict=True):
                    told[number] += [word] if len(set(said)) > 1 else []
    names = [f"{name} ({', '.join(words)})" if words else name for name, *words in told]
    return tuple(replace(method, name=name) for method, name in zip(methods, names, strict=True))


def _said(method: Method, column: str) -> str:
    """What a method has in a column, as one says it."""
    row = method.rows[0]
    match column:
        case "settings":
            return said_settings(row["settings"]) or "defaults"
        case "folder":
            return method.folder.resolve().name
        case "diameter":
            return DIAMETERS[row["diameter"]]
        case "labels":
            return f"{row['labels']} labels"
    return row[column]


def said_settings(settings: str, without: str = "") -> str:
    """The settings of a run's parts in words: range_px 3, at [0]. without: a setting that is left out."""
    parts = json.loads(settings) if settings else {}
    said = [f"{name} {json.dumps(value)}" for part in parts.values() for name, value in part.items() if name != without]
    return re.sub(r"\.0\b", "", ", ".join(said)).replace('"', "")
