"""An evaluation as people read it: tables in the terminal and CSV files."""

import csv
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fewcell.benchmark.evaluate import Evaluation, Row
from fewcell.benchmark.summary import (
    GROUPINGS,
    HEADLINE_MODALITIES,
    MEANS,
    SEEN,
    Group,
    Headline,
    Interval,
    Summary,
)
from fewcell.errors import ConfigError, DataError
from fewcell.images.write import whole_file
from fewcell.metrics import MISTAKES

__all__ = ["read_table", "render", "row_columns", "save_rows", "save_summary", "save_table"]


def render(summary: Summary, evaluation: Evaluation) -> RenderableType:
    """Lay out a summary for the terminal: headlines, a table of groups, and what could not be scored."""
    parts: list[RenderableType] = [Text(_headline_text(headline)) for headline in summary.headlines]
    if summary.groups:
        parts.append(_table(summary.groups))
        parts.append(Text("Means over images, and the median of F1@.5; 95 %: experiments resampled."))
        parts.append(Text(_mistakes_text(evaluation)))
    if any(group.interval and group.interval.over == "images" for group in summary.groups):
        parts.append(Text("* one experiment only: its images were resampled, which says nothing about others."))
    if evaluation.unscorable:
        names = ", ".join(evaluation.unscorable)
        parts.append(Text(f"Not scorable, every true cell is cut by the border or there is none: {names}"))
    if evaluation.failures:
        parts.append(Text(f"{len(evaluation.failures)} failed; a missing or unusable prediction counts as F1 0:"))
        parts += [Text(f"  {failure.stem}: {failure.message}") for failure in evaluation.failures]
    return Lines(*parts)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV table. Raises DataError if it cannot be read."""
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}). Give the folder that `fewcell benchmark` wrote."
        ) from None


def save_rows(
    evaluation: Evaluation,
    path: str | PathLike[str],
    *,
    extra: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> None:
    """Save one line an image as CSV.

    extra: columns that are the same in every line, such as commit, machine, seed, or model. Raises WriteError
    where the file exists and `overwrite` is False, ConfigError where an extra column has a name in use.
    """
    save_table([row_columns(row) for row in evaluation.rows], path, extra=extra, overwrite=overwrite)


def row_columns(row: Row) -> dict[str, object]:
    """What is known of an image and its scores, as named columns."""
    known: dict[str, object] = {
        "stem": row.stem,
        "source": row.source,
        "modality": row.modality,
        "subject": row.subject,
        "experiment": row.experiment,
        "seen": SEEN[row.seen],
        "scorable": "yes" if row.scores.scorable else "no",
        "problem": row.problem,
    }
    return known | row.scores.as_row()


def save_summary(
    summary: Summary,
    path: str | PathLike[str],
    *,
    extra: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> None:
    """Save one line a headline and a group as CSV; `extra` and errors as in `save_rows`."""
    rows: list[dict[str, object]] = [
        {"grouping": "headline", "name": headline.name, "f1_50": headline.f1_50}
        | _interval_columns(headline.interval)
        | {"missing": " ".join(headline.missing)}
        for headline in summary.headlines
    ]
    rows += [
        {
            "grouping": group.grouping,
            "name": group.name,
            "n_images": group.n_images,
            "n_experiments": group.n_experiments,
            "median_f1_50": group.median_f1_50,
        }
        | dict(group.means)
        | _interval_columns(group.interval)
        for group in summary.groups
    ]
    save_table(rows, path, extra=extra, overwrite=overwrite)


def _interval_columns(interval: Interval | None) -> dict[str, object]:
    if interval is None:
        return {"f1_50_low": None, "f1_50_high": None, "resampled": None}
    return {"f1_50_low": interval.low, "f1_50_high": interval.high, "resampled": interval.over}


def _interval_text(interval: Interval | None) -> str:
    if interval is None:
        return "one image"
    return f"{interval.low:.3f} to {interval.high:.3f}{'*' if interval.over == 'images' else ''}"


def _headline_text(headline: Headline) -> str:
    title = f"F1 at IoU 0.5, mean over {', '.join(HEADLINE_MODALITIES)} ({headline.name})"
    if headline.f1_50 is None:
        return f"{title}: none, for there is no scorable image of {', '.join(headline.missing)}"
    if headline.interval is None:
        return f"{title}: {headline.f1_50:.3f} (no interval: a modality has a single image)"
    return f"{title}: {headline.f1_50:.3f} (95 %: {_interval_text(headline.interval)})"


def _mistakes_text(evaluation: Evaluation) -> str:
    """How many cells are wrong, and how, over all images."""
    counts = [row.scores.counts[0] for row in evaluation.rows]
    n_true, n_predicted = sum(c.n_true for c in counts), sum(c.n_predicted for c in counts)
    total = {kind: sum(row.scores.mistakes[kind] for row in evaluation.rows) for kind in MISTAKES}
    wrong = ", ".join(f"{kind.replace('_', ' ')} {total[kind]}" for kind in MISTAKES if kind != "false")
    return f"Of {n_true} true cells at IoU 0.5: {wrong}. Of {n_predicted} found: false {total['false']}."


def _table(groups: Sequence[Group]) -> Table:
    """One table with a section for each grouping, so that columns line up."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in (
        "images",
        "exp.",
        "F1@.5",
        "95 %",
        "median",
        "@.6",
        "@.7",
        "@.8",
        "@.9",
        "AP50",
        "PQ",
        "AJI",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for grouping in GROUPINGS:
        table.add_section()
        for group in groups:
            if group.grouping != grouping:
                continue
            f1_50, *others = (f"{group.means[score]:.3f}" for score in MEANS)
            numbers = (str(group.n_images), str(group.n_experiments), f1_50, _interval_text(group.interval))
            table.add_row(Text(group.name), *numbers, f"{group.median_f1_50:.3f}", *others)
    return table


def save_table(
    rows: Sequence[Mapping[str, object]],
    path: str | PathLike[str],
    *,
    extra: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> None:
    """Save rows as CSV, whole or not at all: the columns of all of them, then those of `extra`, the same in each."""
    extra = extra or {}
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if taken := sorted(extra.keys() & set(columns)):
        raise ConfigError(f"The extra column {taken[0]!r} has the name of a column of the table: choose another.")
    lines = [{name: _cell(value) for name, value in {**row, **extra}.items()} for row in rows]
    with (
        whole_file(path, overwrite=overwrite) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, [*columns, *extra], restval="")
        writer.writeheader()
        writer.writerows(lines)


def _cell(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
