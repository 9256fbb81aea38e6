"""Rounds: during training, the network so far labels images of the pool. What it said is kept in a folder."""

import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewcell.data.dataset import Sample
from fewcell.data.split import label_order
from fewcell.engine import available_threads
from fewcell.errors import DataError, FewcellError, FewcellWarning
from fewcell.images import whole_file, write_labels
from fewcell.segmenter import Segmenter
from fewcell.training.machine import Machine
from fewcell.training.objective import Rounds
from fewcell.training.teacher import FEWEST_SURE, Teacher

__all__ = ["Pool"]

MODEL = "teacher"


@dataclass(frozen=True)
class Pool:
    """Images that are not fully labelled, and the folder in which a teacher's labels of them are kept.

    samples: the pool. held_out: labelled images that the network has not learned from. folder: holds a folder a round,
    with the teacher (a model folder), labels/<number>_<stem>_label.tiff and facts of both. threads: of a teacher.
    """

    samples: Sequence[Sample]
    held_out: Sequence[Sample]
    folder: Path
    rounds: Rounds
    here: Machine
    threads: int | None

    def n_due(self, share: float) -> int:
        """How many rounds are due when this share of the budget is spent."""
        return sum(share >= at for at in self.rounds.at)

    def teach(self, number: int, write_teacher: Callable[[Path], None]) -> float:
        """Hold a round, the first is 1: write the teacher, if it is not there yet, and label the next images by it.

        What is there already is not made again, so a round that was interrupted ends with the same labels. All
        processes call this; the first writes the teacher, each labels its part of the images. Returns the seconds that
        this process spent on labels that were there already. Raises DataError if no image at all can be used.
        """
        folder = self.folder / str(number)
        if self.here.is_first and not (folder / MODEL).exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_teacher(folder / MODEL)
        self.here.wait()
        mine = self._images(number)[self.here.rank :: self.here.world]
        missing = [i for i in mine if not self._facts(number, i).exists()]
        earlier = sum(self._read_facts(number, i).get("seconds", 0.0) for i in mine if i not in missing)
        if missing:
            threads = self.threads or max(1, available_threads() // self.here.world)
            segmenter = Segmenter.load(folder / MODEL, threads=threads)
            teacher = Teacher(segmenter, self.held_out, self.rounds.keep)
            for i in missing:
                self._label(number, i, teacher)
        self.here.wait()
        facts = [self._read_facts(number, i) for i in self._images(number)]
        problems = [str(its["problem"]) for its in facts if "problem" in its]
        if len(problems) == len(facts):
            raise DataError(f"None of the {len(problems)} images without labels can be used: {problems[0]}")
        if self.here.is_first:
            self._warn(facts, problems)
        return earlier

    def _warn(self, facts: Sequence[dict[str, Any]], problems: Sequence[str]) -> None:
        """Say what a round brought to nothing."""
        if problems:
            why = f"{len(problems)} of {len(facts)} images without labels cannot be used, for example: {problems[0]}"
            warnings.warn(why, FewcellWarning, stacklevel=2)
        precision = min(its["precision"] for its in facts)
        if precision < self.rounds.precision and not any(its["used"] for its in facts):
            warnings.warn(
                f"Nothing is learned yet from {len(facts)} images without labels: of the cells that the model was "
                f"surest of, {precision:.0%} were right on held-out images, and {self.rounds.precision:.0%} of "
                f"{FEWEST_SURE} or more must be.",
                FewcellWarning,
                stacklevel=2,
            )

    def taught(self, n_rounds: int) -> list[Sample]:
        """The images labelled in so many rounds that can be learned from, each with its newest labels.

        Of each it is the part that the teacher has looked at: crops of the rest would show nothing that is known.
        """
        found: dict[int, Sample | None] = {}
        for number in range(1, n_rounds + 1):
            for i in self._images(number):
                if not self._facts(number, i).exists():  # the round was left out
                    continue
                facts = self._read_facts(number, i)
                # Older rounds do not say which part it is.
                known = {"diameter_px": facts.get("diameter_px"), "window": tuple(facts.get("window", ())) or None}
                taught = replace(self.samples[i], labels=self._labels(number, i), regions=None, **known)
                found[i] = taught if facts["used"] else None
        return [sample for sample in found.values() if sample is not None]

    def _images(self, number: int) -> list[int]:
        """The images of a round: the next ones in an order that is spread over modalities, sources, experiments."""
        order = label_order(self.samples)
        count = min(self.rounds.images, len(order))
        first = (number - 1) * count
        return [order[i % len(order)] for i in range(first, first + count)]

    def _label(self, number: int, i: int, teacher: Teacher) -> None:
        """Write the labels of an image and, last, what there is to know of them."""
        began, sample = time.perf_counter(), self.samples[i]
        is_weak = bool(sample.points or sample.boxes)
        facts: dict[str, object] = {"image": str(sample.image), "precision": round(teacher.precision, 4)}
        if not is_weak and teacher.precision < self.rounds.precision:
            self._write_facts(number, i, facts | {"used": False})
            return
        try:
            lesson = teacher.label(sample)
        except FewcellError as error:
            facts |= {"used": False, "problem": str(error)}
        else:
            facts |= {"found": lesson.n_found, "kept": lesson.n_kept, "trust": round(lesson.trust, 4)}
            facts |= {"diameter_px": round(lesson.diameter_px, 2), "window": [int(side) for side in lesson.window]}
            tells = lesson.scale_known or lesson.labels.max(initial=0) <= 0
            facts["used"] = tells if is_weak else lesson.n_kept > 0
            write_labels(self._labels(number, i), lesson.labels, overwrite=True)
        self._write_facts(number, i, facts | {"seconds": round(time.perf_counter() - began, 3)})

    def _write_facts(self, number: int, i: int, facts: dict[str, object]) -> None:
        with whole_file(self._facts(number, i), overwrite=True) as temporary:
            temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _labels(self, number: int, i: int) -> Path:
        return self.folder / str(number) / "labels" / f"{i:06d}_{self.samples[i].stem}_label.tiff"

    def _facts(self, number: int, i: int) -> Path:
        return self._labels(number, i).with_suffix(".json")

    def _read_facts(self, number: int, i: int) -> dict[str, Any]:
        facts = json.loads(self._facts(number, i).read_text(encoding="utf-8"))
        if Path(facts["image"]).name != self.samples[i].image.name:  # the folder may have been moved
            raise DataError(f"{self.folder} is of other images: {facts['image']} was {self.samples[i].image}.")
        return facts
