"""Fair comparisons: folders of predicted labels against true ones, and what they amount to."""

from fewcell.benchmark.evaluate import Evaluation, Failure, Row, evaluate_folders
from fewcell.benchmark.plan import Block, Plan, Run, load_plan, runs_of
from fewcell.benchmark.run import FailedRun, run_plan
from fewcell.benchmark.summary import (
    HEADLINE_MODALITIES,
    Group,
    Headline,
    Interval,
    Summary,
    bootstrap,
    summarise,
)
from fewcell.benchmark.tables import render, save_rows, save_summary

__all__ = [
    "HEADLINE_MODALITIES",
    "Block",
    "Evaluation",
    "FailedRun",
    "Failure",
    "Group",
    "Headline",
    "Interval",
    "Plan",
    "Row",
    "Run",
    "Summary",
    "bootstrap",
    "evaluate_folders",
    "load_plan",
    "render",
    "run_plan",
    "runs_of",
    "save_rows",
    "save_summary",
    "summarise",
]
