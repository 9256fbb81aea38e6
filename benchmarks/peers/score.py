"""Score what the peers predicted, in fewcell's own environment: one row a folder.

    python benchmarks/peers/score.py ../shared/data/test runs/peers/stardist/given runs/peers/cellpose/given \\
        runs/peers/cellpose/estimated --out docs/results/peers.csv

F1 is at IoU 0.5 by the rule of the challenge, as `fewcell evaluate` has it: the mean over the images of each modality,
and the headline, the mean over fluorescence, histology, brightfield and phase. Rows that the CSV has of other methods
or diameters stay.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from common import FACTS_FILE

from fewcell.benchmark import evaluate_folders, summarise
from fewcell.benchmark.tables import read_table, save_table

COPIED = ("method", "version", "minutes", "seed", "diameter")
COPIED_LAST = ("mpx_per_s", "threads", "train_s", "steps", "after_s", "n_learn", "n_held_out", "machine")


def score(test: Path, predicted: Path) -> dict[str, object]:
    """The row of one folder: what its run wrote down, and the scores."""
    facts = json.loads((predicted / FACTS_FILE).read_text(encoding="utf-8"))
    evaluation = evaluate_folders(test, predicted)
    summary = summarise(evaluation)
    scores: dict[str, object] = {"n_missing": len(evaluation.failures)}
    for headline in summary.headlines:
        scores["headline" if headline.name == "all" else f"headline_{headline.name}"] = headline.f1_50
    scores |= {f"f1_50_{g.name}": g.means["f1_50"] for g in summary.groups if g.grouping == "modality"}
    row = {name: facts[name] for name in COPIED} | scores | {name: facts[name] for name in COPIED_LAST}
    return row | {"run_commit": facts["commit"], "run": facts["command"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("predicted", type=Path, nargs="+", help="folders that a peer's script wrote")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    rows = [score(arguments.test, folder) for folder in arguments.predicted]
    for row in rows:
        shown = {name: value for name, value in row.items() if name.startswith(("headline", "f1_50", "mpx"))}
        values = ", ".join(f"{name} {value:.3f}" for name, value in shown.items() if isinstance(value, float))
        print(f"{row['method']} {row['version']}, diameter {row['diameter']}: {values}; {row['n_missing']} missing")
    if arguments.out:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        scored = {"commit": commit.stdout.strip(), "command": shlex.join(["python", *sys.argv])}
        others = read_table(arguments.out) if arguments.out.exists() else []
        table: dict[tuple[object, object], dict[str, object]] = {
            (row["method"], row["diameter"]): {**row} for row in others
        }
        table |= {(row["method"], row["diameter"]): row | scored for row in rows}
        save_table([*table.values()], arguments.out, overwrite=True)


if __name__ == "__main__":
    main()
