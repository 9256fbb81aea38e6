"""What the page can do, without HTTP: images, their cells, work in the background, teaching."""

import os
import secrets
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

from fewcell.errors import FewcellError, ReadError, WriteError
from fewcell.images import Slide
from fewcell.kept import Kept
from fewcell.types import Window
from fewcell.web import teaching
from fewcell.web.asked import TeachTask
from fewcell.web.cells import Cells
from fewcell.web.corrections import Correction
from fewcell.web.editing import Points
from fewcell.web.jobs import Job, JobQueue
from fewcell.web.lessons import count_lessons, crops_named, keep_crops, write_crops
from fewcell.web.picture import Picture
from fewcell.web.refusal import Refused
from fewcell.web.segment_job import COMMAND
from fewcell.web.upload import Limits, check_dimensions
from fewcell.web.work_folder import PLAN_FILE, WorkFolder

__all__ = ["Site"]

OPEN_PICTURES_BYTES = 300e6
OPEN_CELLS = 400_000  # in tables that are kept in memory


class Site:
    """One folder that is served, with what is open of it and what is being done."""

    def __init__(
        self, root: Path, models: Sequence[str], *, threads: int | None = None, limits: Limits | None = None
    ) -> None:
        """models: that may be chosen, names or folders. Raises ConfigError, ModelError for what is not there."""
        self.folder, self.given, self.threads = WorkFolder(root.resolve()), models, threads
        self.limits = limits or Limits()
        self.models()
        self.jobs = JobQueue()
        self._locks: defaultdict[Path, RLock] = defaultdict(RLock)  # of those who correct a result
        self._pictures = Kept[Picture](lambda picture: picture.held_bytes, OPEN_PICTURES_BYTES)
        self._cells = Kept[Cells](lambda cells: len(cells.table["id"]), OPEN_CELLS)

    def close(self) -> None:
        self.jobs.close()

    def tidy(self) -> None:
        """Finish what a server of this folder that was killed has left; only while no other serves it."""
        self.folder.remove_temporary()
        for image, model in self.folder.whole_but_unplaced():
            with suppress(Refused, OSError):
                self._replace(image, model, self.folder.unfinished(image, model))

    def models(self) -> dict[str, Path]:
        return teaching.known_models(self.folder, self.given)

    def state(self) -> dict[str, Any]:
        """What the page lists: images with the models that have segmented them, models, jobs."""
        images = [
            {
                "name": path.name,
                "segmented_by": [*(made := self.folder.made_of(path.name))],
                "made": made,
            }
            for path in self.folder.images()
        ]
        return {
            "folder": self.folder.root.name,
            "images": images,
            "models": [*self.models()],
            "jobs": [job.shown() for job in self.jobs.all()],
            "taught": teaching.outcome(self.folder),
        }

    def picture(self, name: str) -> Picture:
        """The image of this name, open. Raises Refused and ReadError."""
        path = self.folder.image(name)
        stat = path.stat()
        return self._pictures.get((path, stat.st_mtime_ns, stat.st_size), partial(self._open_picture, path))

    def cells(self, name: str, model: str) -> Cells:
        """The cells of an image as a model found them. Raises Refused if they are not there."""
        image, folder = self.folder.image(name), self.folder.result(name, model)
        if not (folder / PLAN_FILE).is_file():
            raise Refused(404, f"{name} has not been segmented with the model {model}.")
        made_ns = (folder / PLAN_FILE).stat().st_mtime_ns
        return self._cells.get((image, folder, made_ns), partial(self._open_cells, image, folder))

    def segment(self, name: str, model: str, diameter_px: float | None, channels: Sequence[int] | None) -> Job:
        """Queue the segmentation of an image; what the model found before stays until all is found anew."""
        image, folder, known = self.folder.image(name), self.folder.unfinished(name, model), self.models()
        self.folder.check_inside(image)
        if model not in known:
            raise Refused(404, f"There is no model {model!r}. Known are {', '.join(known)}.")
        task = {
            "image": str(image),
            "folder": str(folder),
            "model": str(known[model]),
            "diameter_px": diameter_px,
            "channels": None if channels is None else [*channels],
            "threads": self.threads,
        }

        def do(job: Job) -> None:
            (folder / PLAN_FILE).unlink(missing_ok=True)
            for said in job.listen_to(COMMAND, task | {"plane": self.picture(name).plane or None}):
                if "error" in said:
                    raise FewcellError(self.folder.named(said["error"]))
                job.stage, job.share, job.seconds_left = said["stage"], said["share"], said["seconds_left"]
            if job.state == "stopped":
                (folder / PLAN_FILE).unlink(missing_ok=True)
            elif (folder / PLAN_FILE).exists():
                try:
                    self._replace(name, model, folder)
                except OSError as error:
                    raise WriteError(f"{name}: its cells were found, but not put in place: {error.strerror}.") from None

        return self.jobs.add("segment", name, model, do)

    def correct(
        self, name: str, model: str, kind: str, numbers: Sequence[int], points: Points, made: str | None = None
    ) -> tuple[Correction, str]:
        """Carry out a correction; it is on the disk, as a correction and as labels to learn from, when this returns.

        made: see `Cells.check_made`. Also returns why it cannot be learned from, '' if it can.
        """
        cells = self.cells(name, model)
        with cells.lock:
            correction = cells.correct(kind, numbers, points, made)
            return correction, self._write_crops(cells, name, model, correction.window)

    def undo(self, name: str, model: str, made: str | None = None) -> tuple[Correction, str]:
        """Take the last correction back: which it was, and why what is left cannot be learned from."""
        cells = self.cells(name, model)
        with cells.lock:
            correction = cells.undo(made)
            return correction, self._write_crops(cells, name, model, correction.window)

    def teach(self, task: TeachTask) -> Job:
        """Queue the teaching of a model. Raises Refused if there is nothing to learn from or something to decide."""
        known = self.models()
        if task.model not in known:
            raise Refused(404, f"There is no model {task.model!r}. Known are {', '.join(known)}.")
        teaching.check_decided(self.folder)
        if any(job.kind == "teach" and job.is_pending for job in self.jobs.all()):
            raise Refused(409, "A model is being taught already.")
        if not count_lessons(self.folder.corrections)["crops"]:
            raise Refused(409, "There is nothing to learn from yet. Correct some cells, and mark where all are right.")
        return self.jobs.add(
            "teach", "", task.model, lambda job: teaching.teach(job, self.folder, known[task.model], task, self.threads)
        )

    def _replace(self, name: str, model: str, by: Path) -> None:
        """Show other cells of an image from now on; those of before are kept, and what can be learned from them."""
        result, token = self.folder.result(name, model), secrets.token_hex(4)
        with self._locks[result]:  # nobody corrects meanwhile
            self.folder.check_inside(self.folder.corrections)
            keep_crops(self.folder.corrections, name, model, token)
            self.folder.replace(result, by, token)

    def _write_crops(self, cells: Cells, name: str, model: str, changed: Window | None = None) -> str:
        """Write what can be learned from corrections; why that failed, '' if it did not: the corrections are safe."""
        corrections = self.folder.corrections
        begin = crops_named(name, model, cells.plan.task.key[:8])
        try:
            self.folder.check_inside(corrections)
            write_crops(cells, self.picture(name).slide, corrections, begin, changed)
        except (FewcellError, OSError) as error:
            return self.folder.named(f"Saved, but nothing can be learned from it: {error}")
        return ""

    def _open_picture(self, path: Path) -> Picture:
        if path.is_file():
            check_dimensions(path, self.limits)
        else:
            self.folder.check_inside(path)
        return Picture(path)

    def _open_cells(self, image: Path, folder: Path) -> Cells:
        self.folder.check_inside(folder)

        def slide() -> Slide:
            return self.picture(image.name).slide

        try:
            cells = Cells(folder, image, slide, self._locks[folder])
        except (OSError, ValueError) as error:
            raise ReadError(f"{folder}: the cells cannot be read: {error}. Segment the image again.") from None
        if cells.corrections and os.access(self.folder.home, os.W_OK):
            with cells.lock:  # a kill may have come between them and the correction
                self._write_crops(cells, image.name, folder.name)
        return cells
