"""What labels are worth: how each way of learning does with few labelled images and with many."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fewcell.benchmark import Interval
from fewcell.report.results import Method, Results, said_settings

__all__ = ["Budget", "label_budgets"]

BASELINE = "supervised"  # the way of learning that others are compared with


@dataclass(frozen=True)
class Budget:
    """One way of learning from so many labelled images.

    ahead: how far its headline F1 is above that of learning from the same labels alone, see `Method.ahead_of`; None for
    that itself, and where it was not run.
    """

    n_labelled: int
    method: Method
    ahead: tuple[float, Interval] | None = None

    def measured(self, panel: str) -> tuple[float, Interval | None] | None:
        """Mean F1 of a panel: "all", "unseen" (headlines both) or a modality, with its 95 % interval."""
        column = {"all": "f1_50", "unseen": "f1_50_unseen"}.get(panel, f"{panel}_f1_50")
        mean = self.method.mean(column)
        if mean is None:
            return None
        resampled = self.method.resampled(None if panel in ("all", "unseen") else panel, _seen(panel))
        if resampled is None:
            return mean, None
        low, high = np.quantile(resampled[0], (0.025, 0.975))
        return mean, Interval(float(low), float(high), resampled[1])


def label_budgets(results: Results) -> Mapping[str, list[Budget]]:
    """For each way of learning, its budgets, the fewest labels first; none where all had the same."""
    ways: dict[str, list[Method]] = defaultdict(list)
    times_differ = len({method.rows[0]["minutes"] for method in results.methods}) > 1
    for method in results.methods:
        ways[_way(method, times_differ)].append(method)
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


def _seen(panel: str) -> str | None:
    return "unseen" if panel == "unseen" else None


def _n_labelled(method: Method) -> int:
    return int(method.rows[0]["labelled_images"])


def _way(method: Method, times_differ: bool) -> str:
    """What is learned and how, but for the number of labels; for how long, where that is not the same for all."""
    row = method.rows[0]
    settings = said_settings(row["settings"], without="recipe")  # how much is held out may depend on how much there is
    parts = (row["network"], row["representation"], f"{row['objective']}, {settings}".rstrip(", "))
    minutes = f", {float(row['minutes']):g} minutes" if times_differ and row["minutes"] else ""
    return " + ".join(parts) + minutes


def _alike(method: Method) -> tuple[str, ...]:
    """What a baseline shares with the method that it is for."""
    return tuple(method.rows[0][column] for column in ("network", "representation", "labels", "minutes", "diameter"))
