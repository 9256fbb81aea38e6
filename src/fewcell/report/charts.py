"""Figures of a report: each a drawing as SVG text, readable in print and without colour where it can be."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fewcell.metrics import MISTAKES, THRESHOLDS
from fewcell.report.budgets import Budget
from fewcell.report.mistakes import MISTAKE_COLOURS
from fewcell.report.results import Line, Results
from fewcell.report.speeds import Speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "cost_chart",
    "curve_chart",
    "label_chart",
    "mistake_chart",
    "modality_chart",
    "speed_chart",
    "threshold_chart",
    "trust_chart",
]

PANELS_A_ROW = 4

FEWEST_CELLS = 20
"""A range of scores with fewer cells is not drawn: its share of right ones says little."""

# Okabe and Ito (2008): colours that people with colour-blindness can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#999933", "#882255")
MARKERS = "osD^vP*X"  # one fewer than colours, so that a pair of both comes again only after 72 methods


def modality_chart(results: Results) -> str:
    """Mean F1 of every method in every modality, with 95 % intervals."""
    names = list(results.modalities)
    height = 0.9 + 0.28 * len(results.methods)
    with _drawing(1.6 + 2.0 * len(names), height, columns=len(names)) as (figure, axes):
        for axis, modality in zip(axes, names, strict=True):
            for row, method in enumerate(results.methods):
                mean, interval = method.mean(f"{modality}_f1_50"), method.interval(modality)
                if mean is None:
                    continue
                if interval:
                    axis.plot([interval.low, interval.high], [row, row], color=_colour(row), linewidth=2, alpha=0.5)
                axis.plot(mean, row, MARKERS[row % len(MARKERS)], color=_colour(row))
            count = len({line["stem"] for line in results.methods[0].scored if line["modality"] == modality})
            axis.set(title=f"{modality}\n({count} images)", xlim=(0, 1), xlabel="mean F1")
            axis.set_yticks(range(len(results.methods)), [m.name for m in results.methods] if axis is axes[0] else [])
            axis.set_ylim(len(results.methods) - 0.5, -0.5)
            axis.grid(axis="x", alpha=0.3)
        figure.tight_layout()
        return _svg(figure)


def cost_chart(results: Results) -> str:
    """The headline F1 of every method against its seconds per megapixel."""
    with _drawing(7, 4) as (figure, (axis,)):
        for row, method in enumerate(results.methods):
            mean, cost = method.overall(), method.mean("total_s_per_mpx")
            if mean is not None and cost:
                axis.plot(cost, mean, MARKERS[row % len(MARKERS)], color=_colour(row), markersize=9, label=method.name)
        axis.set(xscale="log", xlabel="seconds per megapixel (log)", ylabel="mean F1 at IoU 0.5")
        for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            ticks(lambda value, _: f"{value:g}")
        axis.tick_params(axis="x", which="both", length=3, pad=4)
        _legend(axis)
        return _svg(figure)


def speed_chart(speeds: Sequence[Speed]) -> str:
    """The headline F1 of methods against how fast their networks are; a line a network, a point a precision."""
    with _drawing(7, 4) as (figure, (axis,)):
        for row, speed in enumerate(speeds):
            mean, fast = speed.method.overall(), list(speed.mpx_per_s.values())
            if mean is None:
                continue
            axis.plot(fast, [mean] * len(fast), **_line(row), label=speed.method.name)
            for precision, x in speed.mpx_per_s.items():
                place = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 7}
                axis.annotate(precision, (x, mean), **place)
        axis.set(xscale="log", xlabel="megapixels a second of the network (log)", ylabel="mean F1 at IoU 0.5")
        for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            ticks(lambda value, _: f"{value:g}")
        _legend(axis)
        return _svg(figure)


def threshold_chart(results: Results) -> str:
    """How the headline F1 falls as outlines have to fit better."""
    with _drawing(7, 4) as (figure, (axis,)):
        for row, method in enumerate(results.methods):
            values = [method.overall() if t == 0.5 else method.mean(f"f1_{100 * t:.0f}") for t in THRESHOLDS]
            points = [(t, value) for t, value in zip(THRESHOLDS, values, strict=True) if value is not None]
            axis.plot(*zip(*points, strict=True), **_line(row), label=method.name)
        axis.set(xlabel="IoU that a cell must reach", ylabel="mean F1", ylim=(0, 1), xticks=THRESHOLDS)
        _legend(axis)
        return _svg(figure)


def curve_chart(results: Results) -> str:
    """F1 on held-out crops against minutes of training; a line a seed."""
    with _drawing(7, 4) as (figure, (axis,)):
        for row, method in enumerate(results.methods):
            for number, curve in enumerate(c for c in method.curves if c):
                axis.plot(*zip(*curve, strict=True), **_line(row), label=None if number else method.name)
        axis.set(xlabel="minutes of training", ylabel="mean F1 on held-out crops", ylim=(0, 1))
        _legend(axis)
        return _svg(figure)


def label_chart(budgets: Mapping[str, Sequence[Budget]], modalities: Sequence[str]) -> str:
    """Mean F1 against the number of labelled images, over all, over unseen experiments, and in every modality."""
    panels = ("all", "unseen", *modalities)
    counts = sorted({budget.n_labelled for of_way in budgets.values() for budget in of_way})
    rows = -(-len(panels) // PANELS_A_ROW)
    with _drawing(11, 2.9 * rows, columns=PANELS_A_ROW, rows=rows) as (figure, axes):
        for axis in axes[len(panels) :]:
            axis.remove()
        for axis, panel in zip(axes, panels, strict=False):
            for row, (way, of_way) in enumerate(budgets.items()):
                known = [(budget.n_labelled, found) for budget in of_way if (found := budget.measured(panel))]
                if not known:
                    continue
                axis.plot([x for x, _ in known], [mean for _, (mean, _) in known], **_line(row), label=way)
                for x, (_, interval) in known:
                    if interval:  # side by side, so that none hides another
                        at = x * 1.04 ** (row - (len(budgets) - 1) / 2)
                        axis.plot([at, at], [interval.low, interval.high], color=_colour(row), linewidth=2, alpha=0.4)
            axis.set(title=panel, xscale="log", xlabel="labelled images")
            axis.set_xticks(counts, [str(count) for count in counts])
            axis.set_xticks([], minor=True)
            axis.grid(alpha=0.3)
        lowest = min(axis.dataLim.y0 for axis in axes[: len(panels)])
        for axis in axes[: len(panels)]:  # the same for all, and not from 0: lines would lie on each other
            axis.set_ylim(lowest - 0.02, 1.01)
        for axis in axes[::PANELS_A_ROW]:
            axis.set_ylabel("mean F1 at IoU 0.5")
        figure.tight_layout()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="lower left", bbox_to_anchor=(0.05, 1), frameon=False)
        return _svg(figure)


def mistake_chart(results: Results) -> str:
    """What went wrong, per 100 true cells, one bar a method."""
    with _drawing(8, 0.9 + 0.3 * len(results.methods)) as (figure, (axis,)):
        for row, method in enumerate(results.methods):
            left = 0.0
            for kind, count in method.mistakes().items():
                label = kind.replace("_", " ") if row == 0 else None
                axis.barh(row, count, left=left, color=MISTAKE_COLOURS[kind], label=label, edgecolor="white")
                if count >= 4:
                    axis.text(left + count / 2, row, f"{count:.0f}", ha="center", va="center", fontsize=8)
                left += count
        axis.set_yticks(range(len(results.methods)), [method.name for method in results.methods])
        axis.set(xlabel="per 100 true cells")
        axis.invert_yaxis()
        axis.legend(ncols=len(MISTAKES), loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        return _svg(figure)


def trust_chart(results: Results) -> str:
    """The share of right cells among those of a score, for seen and unseen experiments; F1 by the lowest score kept."""
    with _drawing(12, 4, columns=3) as (figure, axes):
        for row, method in enumerate(results.methods):
            for axis, images in zip(axes, ("seen", "unseen"), strict=False):
                if points := _reliability([line for line in method.scores if line["images"] == images]):
                    axis.plot(*zip(*points, strict=True), **_line(row), markersize=4, label=method.name)
            if points := _by_lowest_score([line for line in method.thresholds if line["f1_50"]]):
                axes[2].plot(*zip(*points, strict=True), **_line(row), markersize=4)
        for axis, images in zip(axes, ("seen", "unseen"), strict=False):
            axis.plot([0, 1], [0, 1], color="#888888", linewidth=1)
            axis.set(title=f"{images} experiments", xlabel="score", ylabel="share of right cells", ylim=(0, 1))
            axis.grid(alpha=0.3)
        axes[2].set(title="asking for more", xlabel="lowest score that is kept", ylabel="mean F1 at IoU 0.5")
        axes[2].grid(alpha=0.3)
        figure.tight_layout()
        named = {str(line.get_label()): line for axis in axes for line in axis.get_lines()}
        names = {name: line for name, line in named.items() if not name.startswith("_")}
        figure.legend([*names.values()], [*names], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return _svg(figure)


def _reliability(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Mean score and share of right cells in each range of scores with enough of them, all runs together."""
    ranges: dict[float, list[float]] = {}
    for line in lines:
        found = float(line["found"])
        sums = ranges.setdefault(float(line["from"]), [0.0, 0.0, 0.0])
        for i, value in enumerate((found, float(line["right"]), found * float(line["mean_score"]))):
            sums[i] += value
    return [(total / n, right / n) for _, (n, right, total) in sorted(ranges.items()) if n >= FEWEST_CELLS]


def _by_lowest_score(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Lowest scores, and the mean of the F1 of all runs."""
    f1s: dict[float, list[float]] = {}
    for line in lines:
        f1s.setdefault(float(line["min_score"]), []).append(float(line["f1_50"]))
    return [(score, sum(values) / len(values)) for score, values in sorted(f1s.items())]


@contextmanager
def _drawing(width: float, height: float, columns: int = 1, rows: int = 1) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A figure of a size in inches with axes side by side in rows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style | {"svg.hashsalt": "fewcell"}):
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots(rows, columns, squeeze=False).ravel().tolist()


def _svg(figure: Figure) -> str:
    """The drawing as an SVG element, without the head of a file and without the time at which it was made."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r"\s+\n", "\n", text[text.index("<svg") :])


def _legend(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _colour(row: int) -> str:
    return COLOURS[row % len(COLOURS)]


def _line(row: int) -> dict[str, Any]:
    styles = ("-", "--", ":")
    return {"color": _colour(row), "marker": MARKERS[row % len(MARKERS)], "linestyle": styles[row // 3 % 3]}
