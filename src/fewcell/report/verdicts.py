"""What a method is better and worse at than the others, read off the figures."""

from collections.abc import Callable
from dataclasses import dataclass

from fewcell.metrics import MISTAKES
from fewcell.report.results import Method, Results

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True)
class Verdict:
    """What one method does best and worst of all that were compared, as half-sentences with their figures."""

    advantages: tuple[str, ...]
    shortcomings: tuple[str, ...]


@dataclass(frozen=True)
class _Measure:
    """One thing to be good at. best, worst: half-sentences with a place for the figure."""

    value: Callable[[Method], float | None]
    best: str
    worst: str
    lower_is_better: bool = False


def verdicts(results: Results) -> dict[str, Verdict]:
    """For each method, by its name, every measure in which it is the best or the worst of all; ties count for none."""
    found: dict[str, tuple[list[str], list[str]]] = {method.name: ([], []) for method in results.methods}
    for measure in _measures(results):
        values = {method.name: measure.value(method) for method in results.methods}
        known = sorted((value, name) for name, value in values.items() if value is not None)
        if len(known) < 2:
            continue
        (low, lowest), (high, highest) = known[0], known[-1]
        best, worst = ((low, lowest), (high, highest)) if measure.lower_is_better else ((high, highest), (low, lowest))
        if [value for value, _ in known].count(best[0]) == 1:
            found[best[1]][0].append(measure.best.format(best[0]))
        if [value for value, _ in known].count(worst[0]) == 1:
            found[worst[1]][1].append(measure.worst.format(worst[0]))
    return {name: Verdict(tuple(good), tuple(bad)) for name, (good, bad) in found.items()}


def _measures(results: Results) -> list[_Measure]:
    def column(name: str) -> Callable[[Method], float | None]:
        return lambda method: method.mean(name)

    def mistake(kind: str) -> Callable[[Method], float | None]:
        return lambda method: method.mistakes()[kind]

    measures = [
        _Measure(Method.overall, "the highest mean F1 of all ({:.3f})", "the lowest mean F1 of all ({:.3f})"),
        _Measure(
            lambda method: method.overall("unseen"),
            "the highest mean F1 on experiments that it never saw ({:.3f})",
            "the lowest mean F1 on experiments that it never saw ({:.3f})",
        ),
        _Measure(
            column("f1_80"),
            "the best outlines: the highest mean F1 at IoU 0.8 ({:.3f})",
            "the roughest outlines: the lowest mean F1 at IoU 0.8 ({:.3f})",
        ),
    ]
    measures += [
        _Measure(column(f"{name}_f1_50"), f"the best in {name} ({{:.3f}})", f"the weakest in {name} ({{:.3f}})")
        for name in results.modalities
    ]
    words = {kind: kind.replace("_", " ") for kind in MISTAKES}
    measures += [
        _Measure(
            mistake(kind),
            f"the fewest {words[kind]} cells ({{:.1f}} per 100)",
            f"the most {words[kind]} cells ({{:.1f}} per 100)",
            lower_is_better=True,
        )
        for kind in MISTAKES
    ]
    costs = {
        "network_s_per_mpx": ("network", "{:.2f} s a megapixel"),
        "decode_s_per_mpx": ("decoding", "{:.2f} s a megapixel"),
        "peak_memory_mb": ("memory", "{:.0f} MB at the peak"),
    }
    for name, (word, unit) in costs.items():
        least, most = ("least", "most") if word == "memory" else ("fastest", "slowest")
        measures.append(
            _Measure(column(name), f"the {least} {word} ({unit})", f"the {most} {word} ({unit})", lower_is_better=True)
        )
    return measures
