"""QuPath: a script for its editor that runs fewcell on the open image."""

import shutil
import sys
from importlib.resources import files
from pathlib import Path

from fewcell.images import whole_file

__all__ = ["write_qupath_script"]

_BLANK = "def fewcell = 'fewcell'"


def write_qupath_script(path: Path, *, overwrite: bool = False) -> None:
    """Write the script with the full path of this installation's command, which QuPath would not find by its name.

    Programs that are started from a desktop do not see the environment of a terminal. Raises WriteError where the file
    exists and may not be overwritten.
    """
    script = files("fewcell.handover").joinpath("qupath.groovy").read_text(encoding="utf-8")
    here = shutil.which("fewcell", path=str(Path(sys.executable).parent)) or shutil.which("fewcell") or "fewcell"
    quoted = str(Path(here)).replace("\\", "\\\\").replace("'", "\\'")
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(script.replace(_BLANK, f"def fewcell = '{quoted}'"), encoding="utf-8")
