"""The page: figures, pictures and words of a comparison in one HTML file, and the words and tables in Markdown."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewcell.errors import require
from fewcell.images import check_free, whole_file
from fewcell.report.ablations import load_ablations, load_heights
from fewcell.report.budgets import label_budgets
from fewcell.report.charts import (
    MISTAKE_COLOURS,
    cost_chart,
    curve_chart,
    label_chart,
    mistake_chart,
    modality_chart,
    speed_chart,
    threshold_chart,
    trust_chart,
)
from fewcell.report.pictures import difficult_crops, example_crops, target_pictures
from fewcell.report.results import Method, Results, load_results
from fewcell.report.speeds import load_speeds, precisions
from fewcell.report.verdicts import verdicts
from fewcell.representations import REPRESENTATIONS, make_representation

__all__ = ["write_report"]

# Columns of the table: heading, column of the rows, digits, and whether the highest (1) or lowest (-1) is the best.
COLUMNS = (
    ("F1", "f1_50", 3, 1),
    ("seen", "f1_50_seen", 3, 1),
    ("unseen", "f1_50_unseen", 3, 1),
    ("F1 at 0.8", "f1_80", 3, 1),
    ("AP", "ap_50", 3, 1),
    ("PQ", "pq", 3, 1),
    ("calibration error, seen", "calibration_error_seen", 3, -1),
    ("network, s/Mpx", "network_s_per_mpx", 2, -1),
    ("decode, s/Mpx", "decode_s_per_mpx", 2, -1),
    ("memory, MB", "peak_memory_mb", 0, -1),
    ("parameters", "parameters", 0, 0),
    ("crops seen", "images_seen", 0, 0),
)

OVERALL = {"f1_50": None, "f1_50_seen": "seen", "f1_50_unseen": "unseen"}  # over all that counts


def write_report(
    folders: Sequence[Path], out: Path, *, data: Path | None = None, command: str = "", overwrite: bool = False
) -> tuple[Path, Path]:
    """Write the report of what `fewcell benchmark` left in some folders: `out` (HTML), and its twin with suffix .md.

    folders: or the rows.csv in them. data: the test dataset; with it, the page shows crops of its images, with every
    method's mistakes. Without, it shows only images that come with scikit-image. command: how the report was made, told
    at its end.

    Raises DataError if there is nothing to report, MissingDependencyError without matplotlib, Jinja2 or torch (networks
    are described by themselves), WriteError if a file is there and `overwrite` is False.
    """
    require("report", "jinja2", "matplotlib")
    require("train", "torch")
    import jinja2

    paths = (out, out.with_suffix(".md"))
    for path in paths:
        check_free(path, overwrite=overwrite)
    folders = [folder.parent if folder.is_file() else folder for folder in folders]
    results = load_results(folders)
    facts = {
        "results": results,
        "budget": _budget(results),
        "table": _table(results),
        "modality_table": _modality_table(results),
        "budgets": (budgets := label_budgets(results)),
        "verdicts": verdicts(results),
        "descriptions": _descriptions(results),
        "networks": _networks(results),
        "ablations": load_ablations(folders),
        "heights": load_heights(folders),
        "speeds": (speeds := load_speeds(folders, results)),
        "precisions": precisions(speeds),
        "command": command,
    }
    charts = {
        "modality_chart": modality_chart(results),
        "cost_chart": cost_chart(results),
        "speed_chart": speed_chart(speeds) if speeds else "",
        "threshold_chart": threshold_chart(results),
        "curve_chart": curve_chart(results),
        "label_chart": label_chart(budgets, results.modalities) if budgets else "",
        "mistake_chart": mistake_chart(results),
        "trust_chart": trust_chart(results) if any(method.scores for method in results.methods) else "",
    }
    crops = [*(difficult_crops(results, data) if data else []), *example_crops(results)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fewcell.report", "."),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["code"] = _code
    pictures = {name: target_pictures(make_representation(name)) for name in facts["descriptions"]}
    page = environment.get_template("page.html.j2").render(
        **facts, **charts, crops=crops, targets=pictures, mistake_colours=MISTAKE_COLOURS
    )
    twin = environment.get_template("page.md.j2").render(**facts)
    for path, text in zip(paths, (page, twin), strict=True):
        with whole_file(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def _budget(results: Results) -> str:
    """What all methods had of the same: time, or else steps."""
    rows = [row for method in results.methods for row in method.rows]
    for column, words in (("minutes", "for the same time"), ("steps", "for the same number of steps")):
        if len(same := {row[column] for row in rows}) == 1 and same != {""}:
            return words
    return ""


def _code(text: str) -> str:
    """HTML of a text in which what stands between backticks is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _table(results: Results) -> dict[str, object]:
    """Headings, and for each method its name, how sure its F1 is, and a (text, is the best) pair a column.

    Columns that no method has are left out.
    """
    columns, headings = [], []
    for heading, name, digits, sense in COLUMNS:
        values = [_value(method, name) for method in results.methods]
        known = [sense * value for value in values if value is not None]
        if known:
            best = max(known) if sense and len(known) > 1 else None
            headings.append(heading)
            columns.append(
                [
                    ("-", False) if v is None else (f"{v:,.{digits}f}", sense * v == best and best is not None)
                    for v in values
                ]
            )
    rows = [
        (method, _interval_text(method), list(cells))
        for method, cells in zip(results.methods, zip(*columns, strict=True), strict=True)
    ]
    return {"headings": headings, "rows": rows}


def _value(method: Method, column: str) -> float | None:
    return method.overall(OVERALL[column]) if column in OVERALL else method.mean(column)


def _modality_table(results: Results) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """For each method, mean F1, its interval and the median in every modality."""
    rows = []
    for method in results.methods:
        cells = []
        for modality in results.modalities:
            mean, median = method.mean(f"{modality}_f1_50"), method.mean(f"{modality}_median_f1_50")
            shown = tuple("-" if value is None else f"{value:.3f}" for value in (mean, median))
            cells.append((shown[0], _interval_text(method, modality), shown[1]))
        rows.append((method.name, cells))
    return rows


def _interval_text(method: Method, modality: str | None = None) -> str:
    interval = method.interval(modality)
    return f"{interval.low:.2f} to {interval.high:.2f}" if interval else "no interval"


@dataclass(frozen=True)
class _Description:
    """What a network or a representation is, where it comes from, and what it cannot do by its nature."""

    text: str
    source: str
    bounds: tuple[str, ...] = ()


def _descriptions(results: Results) -> dict[str, _Description]:
    """What each representation is: the first part of its docstring, the last, and the bounds that it states."""
    found = {}
    for name, representation in REPRESENTATIONS.items():
        if any(name == method.representation for method in results.methods):
            bounds = tuple(
                f"{scene} come back at an IoU of about {iou + 0.02:.1f} even from perfect predictions: {reason}."
                for scene, (iou, reason) in representation.contract_bounds.items()
            )
            found[name] = replace(_described(representation), bounds=bounds)
    return found


def _networks(results: Results) -> dict[str, _Description]:
    from fewcell.networks import NETWORKS

    there = {row["network"] for method in results.methods for row in method.rows}
    return {name: _described(network) for name, network in NETWORKS.items() if name in there}


def _described(variant: type) -> _Description:
    paragraphs = re.split(r"\n\s*\n", inspect.getdoc(variant) or "")
    source = next((p[p.index("Source:") :] for p in paragraphs if "Source:" in p), "")
    text = " ".join(p for p in paragraphs[:2] if "Source:" not in p and not re.match(r"\w+(, \w+)*: ", p))
    return _Description(" ".join(text.split()), " ".join(source.split()))
