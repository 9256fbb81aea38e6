"""Fair comparisons: folders of predicted labels against true ones, and what they amount to."""

from fewcell.benchmark.efficiency import Efficiency, TimedImage, measure_efficiency, render_efficiency, tolerance_s
from fewcell.benchmark.evaluate import Evaluation, Failure, Files, Row, evaluate_folders
from fewcell.benchmark.plan import Block, Plan, Run, load_plan, runs_of
from fewcell.benchmark.run import FailedRun, run_plan
from fewcell.benchmark.summary import (
    HEADLINE_MODALITIES,
    Group,
    Headline,
    Interval,
    Summary,
    bootstrap,
    bootstrap_groups,
    summarise,
)
from fewcell.benchmark.tables import render, save_rows, save_summary

__all__ = [
    "HEADLINE_MODALITIES",
    "Block",
    "Efficiency",
    "Evaluation",
    "FailedRun",
    "Failure",
    "Files",
    "Group",
    "Headline",
    "Interval",
    "Plan",
    "Row",
    "Run",
    "Summary",
    "TimedImage",
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
