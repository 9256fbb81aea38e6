"""Fair comparisons: folders of predicted labels against true ones, and what they amount to."""

from fewcell.benchmark.evaluate import Evaluation, Failure, Row, evaluate_folders
from fewcell.benchmark.summary import (
    HEADLINE_MODALITIES,
    Group,
    Headline,
    Interval,
    Summary,
    summarise,
)
from fewcell.benchmark.tables import render, save_rows, save_summary

__all__ = [
    "HEADLINE_MODALITIES",
    "Evaluation",
    "Failure",
    "Group",
    "Headline",
    "Interval",
    "Row",
    "Summary",
    "evaluate_folders",
    "render",
    "save_rows",
    "save_summary",
    "summarise",
]
