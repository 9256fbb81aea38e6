"""Running a plan: one training and one scoring after the other, each once, and the tables that they make."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewcell.benchmark.plan import Run, load_plan, runs_of
from fewcell.benchmark.stage import FACTS_FILE, IMAGES_FILE, ROW_FILE, SCORES_FILE, THRESHOLDS_FILE, spent
from fewcell.benchmark.tables import read_table, save_table
from fewcell.family import alone, input_while_alive

__all__ = ["FailedRun", "run_plan"]

CURVE_COLUMNS = ("step", "seconds", "loss", "held_out_loss", "held_out_f1", "learning_rate", "crops_per_s", "waiting")


@dataclass(frozen=True)
class FailedRun:
    """A run that could not be finished, and the end of what its process said."""

    key: str
    stage: str
    message: str


def run_plan(
    plan: Path | str, out: Path, *, report: Callable[[str], None] = lambda line: None
) -> tuple[Path, list[FailedRun]]:
    """Make every run of a plan that is not finished yet, one at a time.

    out: a folder for the models (models/), what they found (scores/) and tables that are written anew after every run:
    rows.csv, a row a run; images.csv, a row a run and test image; curves.csv, the learning curves; scores.csv and
    thresholds.csv, how far scores can be trusted. Runs that are interrupted go on where they stood; finished ones are
    never made again. A run that fails does not stop the others.
    What its process said is kept in failed/. report: called with a line of text as things begin and end.

    Returns the path of rows.csv and the runs that failed. Raises ConfigError if the plan is wrong, WriteError while
    another benchmark is at work in the folder.
    """
    plan = Path(plan).resolve()
    runs, failed = runs_of(load_plan(plan)), []
    out.mkdir(parents=True, exist_ok=True)
    with alone(out / "benchmark.lock", f"{out}: another benchmark is at work there. Wait until it is done, or end it."):
        for number, run in enumerate(runs, 1):
            if failure := _made(run, plan, out, lambda line, n=number: report(f"{n} of {len(runs)}: {line}")):
                failed.append(failure)
                report(f"  failed: {failure.message.splitlines()[-2:][0]}")
            _write_tables(runs, out)
    return out / "rows.csv", failed


def _made(run: Run, plan: Path, out: Path, report: Callable[[str], None]) -> FailedRun | None:
    """Make what is not there yet of a run; returns what went wrong."""
    for stage, done in _stages(run, out):
        if done.exists():
            continue
        report(f"{stage} {run.key}")
        if run.before and not (out / "models" / run.before.training / FACTS_FILE).exists():
            return FailedRun(run.key, stage, f"It goes on from {run.before.key}, which failed.")
        if error := _run_stage(stage, plan, out, run):
            return FailedRun(run.key, stage, error)
    return None


def _stages(run: Run, out: Path) -> list[tuple[str, Path]]:
    """Each stage, and the file that is there once it is finished."""
    models, scores = out / "models" / run.training, out / "scores" / run.key
    return [("train", models / FACTS_FILE), ("score", scores / ROW_FILE)]


def _run_stage(stage: str, plan: Path, out: Path, run: Run) -> str:
    """Run a stage in a process of its own (training in as many as the plan says); returns what went wrong, or ''."""
    module = ["-m", "fewcell.benchmark.stage", stage, str(plan), str(out), run.key]
    command = [sys.executable, *module]
    processes = run.plan.processes if stage == "train" else 1
    environment = dict(os.environ)
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *launcher, *module]
        environment.setdefault("OMP_NUM_THREADS", "1")
    with input_while_alive() as theirs:
        done = subprocess.run(command, env=environment, stdin=theirs, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    log = out / "failed" / f"{stage}_{run.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stderr, encoding="utf-8")
    lines = [line for line in done.stderr.splitlines() if line.strip("=- ")]
    said = "\n".join(lines[-12:]) or f"ended with code {done.returncode}, without a word"
    return f"{said}\n(All of it: {log})"


def _write_tables(runs: Sequence[Run], out: Path) -> None:
    finished = [run for run in runs if all(done.exists() for _, done in _stages(run, out))]
    rows = [row for run in finished for row in read_table(out / "scores" / run.key / ROW_FILE)]
    of_runs = {
        name: [
            row for run in finished if (path := out / "scores" / run.key / file).exists() for row in read_table(path)
        ]
        for name, file in (("images", IMAGES_FILE), ("scores", SCORES_FILE), ("thresholds", THRESHOLDS_FILE))
    }
    curves = [line for run in {run.training: run for run in finished}.values() for line in _curve(run, out / "models")]
    for name, table in {"rows": rows, **of_runs, "curves": curves}.items():
        save_table(table, out / f"{name}.csv", overwrite=True)


def _curve(run: Run, models: Path) -> list[dict[str, object]]:
    """The learning curve of a run; where it began with another, it goes on where that one ended."""
    steps, seconds = spent(models / run.before.training) if run.before else (0, 0.0)
    curve = []
    for row in read_table(models / run.training / "log.csv"):
        line: dict[str, object] = {"run": run.training}
        line |= {name: row.get(name, "") for name in CURVE_COLUMNS}
        line |= {"step": int(row["step"]) + steps, "seconds": float(row["seconds"]) + seconds}
        curve += [line] if row["held_out_loss"] else []
    return curve
