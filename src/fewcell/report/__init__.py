"""Reports: the rows of a benchmark as one page that people can read."""

from fewcell.report.page import write_report

__all__ = ["write_report"]
