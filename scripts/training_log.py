"""Keep the learning curve of the model inside the package: the rows of a run's log at which held-out crops were seen.

    python scripts/training_log.py 2 runs/default-2     # part 2 of its training, see scripts/train_default_model

They replace the rows of that part, and of later ones, in docs/results/default-model-training.csv. To be run where the
training ran: the machine is that of this process.
"""

import csv
import sys
from pathlib import Path

from fewcell.benchmark.provenance import machine_name
from fewcell.engine import cpu_precision
from fewcell.training.fit import begun_recipe

TABLE = Path(__file__).parents[1] / "docs/results/default-model-training.csv"


def main(part: int, run: Path) -> None:
    with open(TABLE, newline="", encoding="utf-8") as file:
        kept = [row for row in csv.DictReader(file) if int(row["part"]) < part]
    recipe = begun_recipe(run)
    machine = f"{machine_name()} ({cpu_precision()})"
    facts = {"seed": recipe["seed"], "minutes": recipe["minutes"], "processes": 2, "machine": machine}
    with open(run / "log.csv", newline="", encoding="utf-8") as file:
        rows = [{"part": part, **row, **facts} for row in csv.DictReader(file) if row["held_out_f1"]]
    if not rows:
        sys.exit(f"{run / 'log.csv'} has no row at which held-out crops were seen")
    with open(TABLE, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *rows])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
