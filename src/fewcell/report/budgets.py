"""What labels are worth: how each way of learning does with few labelled images and with many."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewcell.benchmark import Interval
from fewcell.report.results import DIAMETERS, Method, Results, said_settings

__all__ = ["Budget", "label_budgets"]

BASELINE = "supervised"  # the way of learning that others are compared with
HELD_OUT = "held_out"  # how much is held out may depend on how much there is


@dataclass(frozen=True)
class Budget:
    """One way of learning from so many labelled images.

    ahead: how far its F1 is above that of learning from the same labels alone, see `Method.ahead_of`; None for
    that itself, and where it was not run.
    """

    n_labelled: int
    method: Method
    ahead: tuple[float, Interval] | None = None

    def measured(self, panel: str) -> tuple[float, Interval | None] | None:
        """Mean F1 of a panel: "all", "unseen" (both over all that counts) or a modality, with its 95 % interval."""
        is_overall, seen = panel in ("all", "unseen"), "unseen" if panel == "unseen" else None
        mean = self.method.overall(seen) if is_overall else self.method.mean(f"{panel}_f1_50")
        if mean is None:
            return None
        resampled = self.method.resampled(None if is_overall else panel, seen)
        return mean, None if resampled is None else Interval.of(*resampled)


def label_budgets(results: Results) -> Mapping[str, list[Budget]]:
    """For each way of learning, its budgets, the fewest labels first; none where all had the same."""
    ways: dict[str, list[Method]] = defaultdict(list)
    differ = [name for name in ("length", "diameter") if len({m.rows[0][name] for m in results.methods}) > 1]
    for method in results.methods:
        ways[_way(method, differ)].append(method)
    if len({_n_labelled(method) for method in results.methods}) < 2:
        return {}
    baselines = {_alike(method): method for method in results.methods if method.rows[0]["objective"] == BASELINE}
    return {
        way: sorted((_budget(method, baselines) for method in methods), key=lambda budget: budget.n_labelled)
        for way, methods in ways.items()
    }


def _budget(method: Method, baselines: Mapping[tuple[str, ...], Method]) -> Budget:
    baseline = baselines.get(_alike(method))
    n_labelled = _n_labelled(method)
    if baseline is None or baseline is method:
        return Budget(n_labelled, method)
    return Budget(n_labelled, method, method.ahead_of(baseline))


def _n_labelled(method: Method) -> int:
    return int(method.rows[0]["labelled_images"])


def _way(method: Method, differ: Sequence[str]) -> str:
    """What is learned and how, but for the number of labels. differ: columns that are said as well."""
    row = method.rows[0]
    settings = said_settings(row["settings"], without=HELD_OUT)
    parts = (row["network"], row["representation"], f"{row['objective']}, {settings}".rstrip(", "))
    said = [DIAMETERS[row[name]] if name == "diameter" else row[name] for name in differ]
    return ", ".join([" + ".join(parts), *said])


def _alike(method: Method) -> tuple[str, ...]:
    """What a baseline shares with the method that it is for: all but the objective and its settings."""
    row = method.rows[0]
    parts = json.loads(row["settings"]) if row["settings"] else {}
    shared = {part: its for part, its in parts.items() if part != "objective"}
    shared["recipe"] = {name: value for name, value in shared.get("recipe", {}).items() if name != HELD_OUT}
    columns = ("network", "representation", "labels", "length", "diameter")
    return (*(row[column] for column in columns), json.dumps(shared, sort_keys=True), str(method.folder))
