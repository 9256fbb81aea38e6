"""The process that segments one image for the page: a task on its input, progress on its output, as lines of JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from fewcell.errors import FewcellError
from fewcell.family import end_with_parent
from fewcell.images import whole_file
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.slides import SlideProgress, segment_slide
from fewcell.web.work_folder import PLAN_FILE

__all__ = ["COMMAND", "main"]

COMMAND = (sys.executable, "-m", "fewcell.web.segment_job")


def main() -> int:
    """Do the task, and say how far it is; the exit code is 1 if it could not be done."""
    task = json.loads(sys.stdin.readline())
    end_with_parent()
    image, folder = Path(task["image"]), Path(task["folder"])
    channels = task["channels"]
    settings = FileSettings(
        channels=None if channels is None else tuple(channels),
        plane=task["plane"],
        diameter=task["diameter_px"],
        overwrite=True,
    )
    try:
        segmenter = Segmenter.load(task["model"], threads=task["threads"])
        labels = folder / f"{image.stem}_label.zarr"
        folder.mkdir(parents=True, exist_ok=True)
        found = segment_slide(segmenter, image, labels, settings, exports=("csv",), report=_say_progress)
        with whole_file(folder / PLAN_FILE, overwrite=True) as temporary:
            temporary.write_text(found.plan.model_dump_json(indent=1), encoding="utf-8")
    except FewcellError as error:
        _say(error=str(error))
        return 1
    except Exception as error:
        _say(error=f"{image.name}: unexpected {type(error).__name__}: {error}. Please report this.")
        return 1
    return 0


def _say_progress(progress: SlideProgress) -> None:
    share = progress.done / max(progress.total, 1)
    _say(stage=progress.stage, share=share, seconds_left=progress.seconds_left)


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
