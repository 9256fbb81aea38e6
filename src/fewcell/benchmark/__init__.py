"""Fair comparisons: folders of predicted labels against true ones, and what they amount to."""

from fewcell.benchmark.efficiency import measure_efficiency, render_efficiency, tolerance_s
from fewcell.benchmark.evaluate import Evaluation, Failure, Row, evaluate_folders
from fewcell.benchmark.plan import load_plan, runs_of
from fewcell.benchmark.run import run_plan
from fewcell.benchmark.summary import (
    HEADLINE_MODALITIES,
    Interval,
    bootstrap,
    bootstrap_groups,
    summarise,
)
from fewcell.benchmark.tables import render, save_rows, save_summary

__all__ = [
    "HEADLINE_MODALITIES",
    "Evaluation",
    "Failure",
    "Interval",
    "Row",
    "bootstrap",
    "bootstrap_groups",
    "evaluate_folders",
    "load_plan",
    "measure_efficiency",
    "render",
    "render_efficiency",
    "run_plan",
    "runs_of",
    "save_rows",
    "save_summary",
    "summarise",
    "tolerance_s",
]
