"""A folder of predicted labels against a folder of true ones: one row an image."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from fewcell.data.dataset import LABEL_SUFFIXES, find_manifest, match_manifest, read_manifest, read_truth
from fewcell.errors import DataError, FewcellError
from fewcell.images import SUFFIXES, read_labels
from fewcell.images.read import is_file_or_lost
from fewcell.metrics import ImageScores, score_image

__all__ = ["Evaluation", "Failure", "Files", "Row", "evaluate_folders"]

# A prediction is looked for under these names in turn, each with any of the suffixes of labels.
PREDICTION_NAMES = ("{stem}_label", "{stem}_labels", "{stem}")
UNLISTED = "unknown"


@dataclass(frozen=True)
class Files:
    """Where the true labels of an image are, the regions in which all is annotated, its prediction, and the image."""

    true: Path
    regions: Path | None
    predicted: Path | None
    image: Path | None


@dataclass(frozen=True)
class Row:
    """The scores of one image and what the manifest says of it.

    seen: whether a training image comes from the same experiment; None where the manifest cannot tell.
    problem: why there was no prediction to score; the scores are then those of a prediction without cells.
    files: None where labels were scored without being files.
    """

    stem: str
    source: str
    modality: str
    subject: str
    experiment: str
    seen: bool | None
    scores: ImageScores
    problem: str = ""
    files: Files | None = None


@dataclass(frozen=True)
class Failure:
    """A file that could not be scored, and why."""

    stem: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """Every image scored, and what went wrong.

    rows: in the order of their stems; an image without a usable prediction is there with F1 0 and a problem.
    failures: missing, unreadable, or mismatched files; where there are any, a command ends with exit code 1.
    manifest: the one used, or None.
    """

    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    manifest: Path | None

    @property
    def unscorable(self) -> tuple[str, ...]:
        """Stems of images without a true cell that the border does not cut: part of no mean."""
        return tuple(row.stem for row in self.rows if not row.scores.scorable)


def evaluate_folders(
    true_dir: str | PathLike[str],
    predicted_dir: str | PathLike[str],
    *,
    manifest: str | PathLike[str] | None = None,
) -> Evaluation:
    """Score a folder of predicted label images against the true ones.

    true_dir: holds <stem>_label.tiff (or .tif, .png), or is a dataset folder with these in labels/.
    predicted_dir: holds, for each stem, one of <stem>_label, <stem>_labels, or <stem>, with .tiff, .tif or
        .png; the first of these names counts. Other files are left alone.
    manifest: a CSV with columns stem, file, source, modality, subject, experiment, split; by default
        manifest.csv in the dataset folder or beside it. Which row is that of an image: see `match_manifest`. An
        image is unseen if no row of split 'train' has its experiment.

    A prediction that is missing, unreadable, or of another size than its image counts as one without cells
    (F1 0), so that leaving out a hard image gains nothing; it is also listed among the failures. Raises
    DataError if there are no true labels, if not one of them has a prediction, and if the manifest cannot be
    used.
    """
    true_files = _true_files(Path(true_dir))
    dataset = _dataset_folder(Path(true_dir))
    manifest_file = Path(manifest) if manifest is not None else find_manifest(dataset)
    entries = read_manifest(manifest_file)
    names = _image_names(dataset, true_files)
    images = {stem: dataset / "images" / name for stem, name in names.items()}
    predictions = _predictions(Path(predicted_dir), images)
    entry_of = match_manifest(entries, dataset, names)
    trained = {e["experiment"] for e in entries if e.get("split") == "train" and e.get("experiment")}

    rows, failures = [], []
    for stem, true_file in true_files.items():
        try:
            regions, image = dataset / "regions" / f"{stem}.geojson", images[stem]
            predicted = predictions[stem][0] if len(predictions[stem]) == 1 else None
            files = Files(
                true_file, regions if regions.is_file() else None, predicted, image if image.is_file() else None
            )
            true = read_truth(true_file, files.regions)
            problem = ""
            try:
                scores = score_image(true, read_labels(_only(predictions[stem], stem)))
            except FewcellError as error:
                problem = str(error)
                failures.append(Failure(stem, problem))
                scores = score_image(true, np.zeros_like(true))
        except FewcellError as error:
            failures.append(Failure(stem, f"The true labels cannot be used: {error}"))
        else:
            rows.append(_row(stem, entry_of[stem], trained, scores, problem, files))
    return Evaluation(tuple(rows), tuple(failures), manifest_file)


def _row(stem: str, entry: dict[str, str], trained: Set[str], scores: ImageScores, problem: str, files: Files) -> Row:
    """entry: the manifest's row of the image. trained: the experiments of the training images."""
    experiment = entry.get("experiment") or stem
    return Row(
        stem=stem,
        source=entry.get("source") or UNLISTED,
        modality=entry.get("modality") or UNLISTED,
        subject=entry.get("subject") or UNLISTED,
        experiment=experiment,
        seen=experiment in trained if trained and entry.get("experiment") else None,
        scores=scores,
        problem=problem,
        files=files,
    )


def _image_names(dataset: Path, stems: Iterable[str]) -> dict[str, str]:
    """The file name of each image where it is there, else its stem."""
    folder = dataset / "images"
    files = _files(folder) if folder.is_dir() else []
    names = {path.stem: path.name for path in files if path.suffix.lower() in SUFFIXES}
    return {stem: names.get(stem, stem) for stem in stems}


def _dataset_folder(true_dir: Path) -> Path:
    return true_dir.resolve().parent if true_dir.resolve().name == "labels" else true_dir


def _true_files(true_dir: Path) -> dict[str, Path]:
    """Label files by stem, in the order of stems."""
    folder = true_dir / "labels" if (true_dir / "labels").is_dir() else true_dir
    found: dict[str, Path] = {}
    for path in _files(folder):
        if not path.stem.endswith("_label") or path.suffix.lower() not in LABEL_SUFFIXES:
            continue
        stem = path.stem.removesuffix("_label")
        if stem in found:
            raise DataError(f"{found[stem]} and {path} are true labels of the same image: keep one.")
        found[stem] = path
    if not found:
        raise DataError(f"{folder} holds no true labels: name them <stem>_label.tiff.")
    return dict(sorted(found.items()))


def _predictions(predicted_dir: Path, images: Mapping[str, Path]) -> dict[str, list[Path]]:
    """The files that may be the prediction of each stem, under the first name that is there; not the image itself.

    images: stem -> where the image would be.
    """
    files, stems = _files(predicted_dir), list(images)
    named: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in LABEL_SUFFIXES:
            named[path.stem].append(path)
    found = {}
    for stem in stems:
        names = [name.format(stem=stem) for name in PREDICTION_NAMES]
        its = next((named[name] for name in names if name in named), [])
        found[stem] = [path for path in its if os.path.realpath(path) != os.path.realpath(images[stem])]
    if not any(found.values()):
        raise DataError(
            f"{predicted_dir} holds no prediction for any of the {len(stems)} images with true labels. Name "
            f"them like {stems[0]}_label.tiff; it holds {', '.join(p.name for p in files[:3]) or 'no file at all'}."
        )
    return found


def _only(candidates: Sequence[Path], stem: str) -> Path:
    if not candidates:
        raise DataError(f"No prediction for {stem}: it counts as one without cells. Expected {stem}_label.tiff.")
    if len(candidates) > 1:
        raise DataError(f"Several predictions for {stem}: {', '.join(c.name for c in candidates)}. Keep one.")
    return candidates[0]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.")
    return sorted(path for path in folder.iterdir() if is_file_or_lost(path) and not path.name.startswith("."))
