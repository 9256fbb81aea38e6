"""How the benchmarks keep their rows: each with what is needed to make it again."""

import hashlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewcell.benchmark.provenance import commit_of_source, machine_name
from fewcell.benchmark.tables import save_table
from fewcell.segmenter import FACTS_FILE, find_model

__all__ = ["save_rows"]

COMMIT = commit_of_source()  # now: the source may be changed while a benchmark runs


def save_rows(
    rows: Sequence[Mapping[str, object]], out: Path | None, *, model: str | Path | None = None, **also: object
) -> None:
    """Save rows as CSV, if there is a file to save to; what was there is written over.

    Each row gets what is the same in all: `also`, the model they are about (the first 12 digits of the SHA-256
    of its model.json, which holds thresholds, scorers, and the SHA-256 of its networks), the machine, the commit, and
    the command.
    """
    if out is None:
        return
    facts = dict(also)
    if model is not None:
        facts["model"] = hashlib.sha256((find_model(model) / FACTS_FILE).read_bytes()).hexdigest()[:12]
    facts |= {"machine": machine_name(), "commit": COMMIT, "command": shlex.join(["python", *sys.argv])}
    save_table(rows, out, extra=facts, overwrite=True)
