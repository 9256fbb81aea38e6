"""Where rows come from: the source and the machine that made them."""

import platform
import subprocess
from pathlib import Path

from fewcell import __version__
from fewcell.engine import available_threads

__all__ = ["commit_of_source", "machine_name"]


def commit_of_source() -> str:
    """The commit of the source and the benchmarks, with a mark if they were changed since; else the version.

    Ask before long work, not after it: the source may be changed meanwhile.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short", "HEAD")
    changed = "+changes" if git("status", "--porcelain", "--", ":/src", ":/benchmarks") else ""
    return f"{commit}{changed}" if commit else __version__


def machine_name() -> str:
    """How many cores this process may use, and of which processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{available_threads()} cores, {names[0] if names else platform.processor() or platform.machine()}"
