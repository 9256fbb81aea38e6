"""Teaching: `fewcell train --from-model` on what was corrected, and what became of it, to be kept or dropped."""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from fewcell.errors import ConfigError, FewcellError, require_training
from fewcell.segmenter import find_model, read_model
from fewcell.web.asked import TeachTask
from fewcell.web.jobs import Job
from fewcell.web.lessons import copy_lessons
from fewcell.web.refusal import Refused
from fewcell.web.work_folder import MODEL_NAME, WorkFolder

__all__ = [
    "check_decided",
    "drop",
    "keep",
    "known_models",
    "outcome",
    "teach",
]

TEACH = "from fewcell.family import end_with_parent; end_with_parent(); from fewcell.cli import main; main()"
COMMAND = (sys.executable, "-c", TEACH, "train")
RUN = "run"
LOOK_SECONDS = 0.5  # between looks at the log of the run


def known_models(folder: WorkFolder, given: Sequence[str]) -> dict[str, Path]:
    """The models that may be chosen, by name: those that were given, and those that were kept.

    Raises ModelError for one that is not there, ConfigError for two of one name.
    """
    models = {}
    for model in given:
        name = _short_name(model)
        if name in models:
            raise ConfigError(f"Two models would be called {name!r} on the page. Rename the folder {model}.")
        if not MODEL_NAME.fullmatch(name):
            raise ConfigError(f"The model folder {model} has a name with odd letters. Rename it.")
        models[name] = find_model(model)
    kept = [] if folder.models.is_symlink() else sorted(path.parent for path in folder.models.glob("*/model.json"))
    for path in kept:
        if path.name in models and models[path.name].resolve() != path.resolve():
            raise ConfigError(
                f"Two models would be called {path.name!r} on the page: {models[path.name]} and one that was kept in "
                f"{folder.models}. Rename one of the folders."
            )
    return models | {path.name: path for path in kept if path.name not in models and not path.is_symlink()}


def teach(job: Job, folder: WorkFolder, model: Path, task: TeachTask, threads: int | None) -> None:
    """Run the teaching as a job. Raises FewcellError with what the command said if it fails."""
    require_training()
    check_decided(folder)
    folder.check_inside(folder.teaching)
    if folder.teaching.exists():
        shutil.rmtree(folder.teaching)
    folder.teaching.mkdir(parents=True)
    out, said = folder.teaching / RUN, folder.teaching / "output.txt"
    learned_from = folder.teaching / "corrections"  # a copy, for people go on correcting
    copy_lessons(folder.corrections, learned_from)
    flags = ["--from-model", str(model.resolve()), *task.flags()]
    flags += ["--threads", str(threads)] if threads else []
    command = [*COMMAND, str(learned_from), "-o", str(out), *flags]
    job.stage, job.share = "reading", None
    watching = Thread(target=_watch, args=(job, out / "log.csv"), daemon=True)
    watching.start()
    with said.open("wb") as file:
        status = job.wait_for(command, stdout=file, stderr=subprocess.STDOUT)
    if status and job.state != "stopped":
        text = said.read_text(encoding="utf-8", errors="replace")
        raise FewcellError(text[text.rfind("fewcell: ") + len("fewcell: ") :].strip()[-2000:] or "Teaching failed.")


def outcome(folder: WorkFolder) -> dict[str, Any] | None:
    """What teaching has led to: F1 on held-out corrections before and after; None if nothing is to be decided.

    share: how far from the old model to the new one it went; 0: nothing was better than the old one. Of a model that
    cannot be used (its files are damaged, or of another fewcell) there is an error instead: it can only be dropped.
    """
    model = folder.teaching / RUN / "model"
    if not (model / "model.json").is_file():
        return None
    try:
        scores = read_model(model).held_out
    except FewcellError as error:
        return {"error": folder.named(str(error))}
    return {"before": scores["f1_50_before"], "after": scores["f1_50"], "share": scores["share"]}


def check_decided(folder: WorkFolder) -> None:
    """Raise Refused while a model that was taught is neither kept nor dropped."""
    if outcome(folder) is not None:
        raise Refused(409, "Keep or drop the model that was taught first.")


def keep(folder: WorkFolder, taken: Collection[str] = ()) -> str:
    """Keep the model that was taught, under a new name, which is returned. Raises Refused if there is none.

    taken: names that other models have.
    """
    found = outcome(folder)
    if found is None or "error" in found:
        raise Refused(409, found["error"] if found else "There is no new model to keep.")
    folder.check_inside(folder.models)
    folder.models.mkdir(parents=True, exist_ok=True)
    number = 1
    while f"taught-{number}" in taken or (folder.models / f"taught-{number}").exists():
        number += 1
    os.rename(folder.teaching / RUN / "model", folder.models / f"taught-{number}")
    shutil.rmtree(folder.teaching)
    return f"taught-{number}"


def drop(folder: WorkFolder) -> None:
    """Remove the model that was taught. Raises Refused if there is none."""
    if outcome(folder) is None:
        raise Refused(409, "There is no new model to drop.")
    shutil.rmtree(folder.teaching)


def _short_name(model: str) -> str:
    """The name of a model: of its folder, or of the run that it lies in."""
    path = Path(model)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def _watch(job: Job, log: Path) -> None:
    """Say how far the run is, as its log does."""
    while job.state == "working":
        for row in _last_row(log):
            job.stage, job.share = "teaching", float(row["share_done"])
            job.seconds_left = float(row["seconds_left"])
            if job.share >= 1:
                job.stage, job.share, job.seconds_left = "comparing with held-out corrections", None, None
        time.sleep(LOOK_SECONDS)


def _last_row(log: Path) -> Iterator[dict[str, str]]:
    if log.is_file():
        with log.open(newline="", encoding="utf-8") as file:
            yield from list(csv.DictReader(file))[-1:]
