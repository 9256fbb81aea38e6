"""The folder that is served: which files may be seen, and where everything that is made lies.

FOLDER/                                images and slides
FOLDER/fewcell/results/<image>/<model>/    labels (OME-Zarr), table, plan, corrections
FOLDER/fewcell/segmenting/<image>/<model>/ the same, until it is whole
FOLDER/fewcell/earlier/                results that others have replaced
FOLDER/fewcell/corrections/            images/ and labels/: what was corrected, to be learned from
FOLDER/fewcell/teaching/               the run that teaches, until its model is kept or dropped
FOLDER/fewcell/models/<model>/         models that were kept
FOLDER/fewcell/serving.lock            held by the server of this folder
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fewcell.errors import ConfigError, ReadError
from fewcell.images import SLIDE_SUFFIXES, list_images
from fewcell.web.refusal import Refused

__all__ = ["MODEL_NAME", "PLAN_FILE", "UPLOAD", "WorkFolder", "check_name", "made_at"]

PLAN_FILE = "plan.json"  # written last: where it is, a result is whole
UPLOAD = ".upload-"  # how files begin that are arriving
LONGEST_NAME = 150  # bytes: file systems allow 255, and names of models, places and endings are added
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class WorkFolder:
    """A folder of images and what is made of them. root: resolved, so that nothing in it leads out by a link."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise ConfigError(f"{self.root} is no folder. Give the folder that holds your images.")
        if self.home.is_symlink() or (self.home.exists() and not self.home.is_dir()):
            raise ConfigError(f"{self.home} is no folder of its own, so results cannot go there. Rename it.")

    @property
    def home(self) -> Path:
        """Where everything that is made lies."""
        return self.root / "fewcell"

    @property
    def corrections(self) -> Path:
        return self.home / "corrections"

    @property
    def teaching(self) -> Path:
        return self.home / "teaching"

    @property
    def models(self) -> Path:
        return self.home / "models"

    def check_inside(self, folder: Path) -> None:
        """Raise Refused if a folder is a link, or holds one, however deep."""
        if folder.is_symlink() or (folder.is_dir() and _holds_link(folder)):
            raise Refused(403, f"{folder}: is a link or holds links, and may lead out of the folder. Copy it without.")

    def named(self, message: str) -> str:
        """A message in which files of the folder are called by their names alone."""
        return message.replace(f"{self.root}{os.sep}", "")

    def images(self) -> list[Path]:
        """The images and slides of the folder, by name; links are left out."""
        try:
            paths = list_images([self.root], SLIDE_SUFFIXES)
        except ReadError:  # there is none
            return []
        return [path for path in paths if not path.is_symlink()]

    def image(self, name: str) -> Path:
        """The image of this name. Raises Refused if there is none, or if the name or a link leads elsewhere.

        What a folder holds is looked at when it is opened, see `check_inside`: it may be very many files.
        """
        check_name(name)
        path = self.root / name
        if path.suffix.lower() not in SLIDE_SUFFIXES or not path.exists() or path.is_symlink():
            raise Refused(404, f"There is no image {name!r} in the folder.")
        return path

    def result(self, image: str, model: str) -> Path:
        """Where the cells that a model finds in an image lie, whether they are there or not."""
        return self._of("results", image, model)

    def unfinished(self, image: str, model: str) -> Path:
        """Where they lie until all of them are there."""
        return self._of("segmenting", image, model)

    def _of(self, kind: str, image: str, model: str) -> Path:
        check_name(image)
        if not MODEL_NAME.fullmatch(model):
            raise Refused(404, f"There is no model {model!r}.")
        folder = self.home / kind / image / model
        if any(part.is_symlink() for part in (folder, folder.parent, folder.parent.parent)):
            raise Refused(403, f"{folder}: is a link, and may lead out of the folder.")
        return folder

    def made_of(self, image: str) -> dict[str, str]:
        """The models whose cells of an image are there, and for each what tells its cells from those of other runs."""
        plans = sorted((self.home / "results" / image).glob(f"*/{PLAN_FILE}"))
        return {path.parent.name: made for path in plans if (made := made_at(path))}

    def remove_temporary(self) -> None:
        """Remove files that were being written to be taken along, and what had arrived of others."""
        for left in self.home.glob(".download-*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.home.glob(f"{UPLOAD}*"):
            left.unlink(missing_ok=True)

    def whole_but_unplaced(self) -> list[tuple[str, str]]:
        """Images and models whose results are whole, but not where they belong."""
        return [(plan.parts[-3], plan.parts[-2]) for plan in self.home.glob(f"segmenting/*/*/{PLAN_FILE}")]

    def replace(self, result: Path, by: Path, token: str) -> None:
        """Put a new result where an earlier one may be, which is kept under a name with `token`."""
        if result.exists():
            earlier = self.home / "earlier"
            if earlier.is_symlink():
                raise Refused(403, f"{earlier}: is a link, and may lead out of the folder.")
            earlier.mkdir(parents=True, exist_ok=True)
            os.rename(result, earlier / f"{result.parent.name}-{result.name}-{token}")
        result.parent.mkdir(parents=True, exist_ok=True)
        os.rename(by, result)


def made_at(plan: Path) -> str:
    """What tells the cells of a plan from those of another run; nothing if it is not there."""
    try:
        return str(plan.stat().st_mtime_ns)
    except FileNotFoundError:
        return ""


def check_name(name: str) -> None:
    """Raise Refused for what is not the plain name of a file in the folder."""
    is_plain = name == Path(name).name and not name.startswith(".") and "\\" not in name and name.isprintable()
    if not is_plain or not name or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise Refused(400, f"{name[:80]!r} is no plain file name. Rename the file.")


def _holds_link(folder: Path) -> bool:
    return any(
        os.path.islink(os.path.join(inside, name))
        for inside, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )
