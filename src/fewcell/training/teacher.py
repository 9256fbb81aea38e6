"""A teacher: a model that looks at an image in several ways, and knows which of the cells it finds are likely right."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.data.dataset import Sample, load_labelled, load_sample
from fewcell.data.weak import read_boxes, read_points, read_regions, usual_side, with_ellipses
from fewcell.images import Image, Pyramid, normalise, resize_image, resize_labels
from fewcell.metrics import overlaps
from fewcell.scoring import Scorer, clipped_logit
from fewcell.segmenter import COARSER, LARGEST_FACTOR, Segmenter, busiest_window
from fewcell.training.proposals import (
    agreement,
    all_marked,
    best_in_boxes,
    by_boxes,
    by_points,
    by_trust,
    in_boxes,
    with_points,
)
from fewcell.types import UNKNOWN, FloatArray, Instances, Labels, Turn, Window
from fewcell.windows import slices

__all__ = ["FEWEST_SURE", "VIEWS", "Lesson", "Teacher", "View"]

FOLDS = 5
LESSON_PX = 512  # side of the part of an image, at canonical scale, that a teacher labels: of more, crops see little
PRIOR_CELLS = 100  # so many held-out cells tell as much as score and agreement say by themselves
PRIOR = (np.arange(20) + 0.5) / 20
MOSTLY_MARKED = 0.8  # of the sure cells: if so many bear a mark, all cells do
BOX_SCALES = (1.0, 1.3, 1.6)  # at which cells in boxes are sought: what is new to a network it may see better enlarged
FEWEST_SURE = 5  # cells; fewer show nothing


@dataclass(frozen=True)
class View(Turn):
    """A way to look at an image: turned, and its cells enlarged by `scale`.

    What is found in it can be brought back to the image, and compared with what is found without.
    """

    scale: float = 1.0


VIEWS: Sequence[View] = (View(flip=True, scale=0.75), View(quarters=1, scale=1.33))
N_FEATURES = 1 + len(VIEWS)  # of a cell: its score, and how each view agrees


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of an image: labels to learn from, UNKNOWN where it is not sure.

    n_found, n_kept: cells that it found, and those that the labels hold: some of these, or what fits boxes. trust: how
    likely those found are right, their mean. diameter_px: how wide the cells are; scale_known: whether anything tells.
    window: the part of the image that the teacher looked at; beyond it nothing is known.
    """

    labels: Labels
    n_found: int
    n_kept: int
    trust: float
    diameter_px: float
    scale_known: bool
    window: Window


@dataclass(frozen=True)
class _Seen:
    """Cells found in a window of an image, and in other views of it.

    features: (cell, 1 + view), score and agreement. views: those that have to agree, and one for larger cells.
    foreground: the most that any of those that have to agree says of a pixel. diameter_px: as which cells were sought;
    None where nothing looks like one.
    """

    window: Window
    found: Labels
    views: list[Labels]
    foreground: FloatArray
    features: NDArray[np.float64]
    diameter_px: float | None


class Teacher:
    """A segmenter that labels images, by what its views agree on and by weak labels.

    How agreement and score go with being right (an IoU of 0.5 with a true cell) is learned from labelled images that
    the network has not learned from, as far as these are enough to tell. (The segmenter's scorer was fitted to them, so
    its score is somewhat too sure.)
    precision: of the cells that it would keep there, the share that is right, each experiment judged by what was
    learned from others (where there is only one, each fifth of its cells by the rest); 0 if it would keep fewer than
    FEWEST_SURE: they would show nothing.
    """

    def __init__(self, segmenter: Segmenter, labelled: Iterable[Sample], keep: float) -> None:
        """keep: cells that are right with this probability, or more, are kept."""
        self.segmenter, self.keep = segmenter, keep
        features, right, experiments = [], [], []
        for sample in labelled:
            image, truth, _ = load_labelled(sample)
            seen = self._look(image)
            is_right, known = overlaps(truth[slices(seen.window)], seen.found).right_and_known()
            features.append(seen.features[known])
            right.append(is_right[known])
            experiments.append(sample.experiment)
        self.trust, self.precision = self._learn(features, right, experiments)

    def _learn(
        self, features: list[NDArray[np.float64]], right: list[NDArray[np.bool_]], experiments: list[str]
    ) -> tuple[Scorer, float]:
        number = {name: i % FOLDS for i, name in enumerate(sorted(set(experiments)))}
        folds = [np.full(len(r), number[name]) for r, name in zip(right, experiments, strict=True)]
        fold = np.concatenate([*folds, np.zeros(0, dtype=int)])
        if len(number) == 1:
            fold = np.arange(len(fold)) % FOLDS
        all_features = np.concatenate([np.zeros((0, N_FEATURES)), *features])
        all_right = np.concatenate([np.zeros(0, dtype=bool), *right])
        n_kept = n_right = 0
        for one in np.unique(fold):
            of_fold = fold == one
            kept = _fit_trust(all_features[~of_fold], all_right[~of_fold])(all_features[of_fold]) >= self.keep
            n_kept, n_right = n_kept + kept.sum(), n_right + all_right[of_fold][kept].sum()
        return _fit_trust(all_features, all_right), float(n_right / n_kept) if n_kept >= FEWEST_SURE else 0.0

    def label(self, sample: Sample) -> Lesson:
        """Label an image by its points or boxes, if there are any, and otherwise a part of it by trust.

        People mark every cell, or say by regions where they did; often they did not, and did not say so. So without
        regions a cell without a mark is wrong only if the teacher is sure of it, and nearly all that it is sure of bear
        one; of what else may be a cell nothing is known.

        Raises ReadError and DataError for files that cannot be used.
        """
        image, _ = load_sample(sample)
        shape = (image.pixels.shape[1], image.pixels.shape[2])
        boxes = None if sample.points or not sample.boxes else read_boxes(sample.boxes, shape)
        is_weak = bool(sample.points or sample.boxes)
        seen = self._look(image, None if is_weak else LESSON_PX, sample.diameter_px or usual_side(boxes))
        trust = self.trust(seen.features)
        scale_known, found = seen.diameter_px is not None, seen.found
        diameter = seen.diameter_px or self.segmenter.facts.canonical_diameter_px
        if sample.points:
            points = read_points(sample.points, shape)
            unmarked = self._unmarked(sample, seen, trust, with_points(seen.found, points) > 0, len(points))
            labels = by_points(seen.found, points, unmarked, diameter)
        elif boxes is not None:
            unmarked = self._unmarked(sample, seen, trust, in_boxes(seen.found, boxes), len(boxes))
            found = self._find_near(image, diameter, boxes) if len(boxes) else found
            labels = by_boxes(found, boxes, unmarked)
        else:
            labels = np.full(shape, UNKNOWN, dtype=np.int32)
            labels[slices(seen.window)] = by_trust(seen.found, trust >= self.keep, seen.views, seen.foreground)
        n_kept = len(np.unique(labels[(labels > 0) & (labels <= found.max(initial=0))]))
        mean_trust = float(np.sum(trust) / max(len(trust), 1))
        return Lesson(labels, len(trust), n_kept, mean_trust, diameter, scale_known, seen.window)

    def _unmarked(
        self, sample: Sample, seen: _Seen, trust: FloatArray, has_mark: NDArray[np.bool_], n_marks: int
    ) -> Labels:
        """What is known where people marked nothing. has_mark: (cell,); marks may lie on cells that were not found."""
        shape = seen.found.shape
        if sample.regions:
            return all_marked(read_regions(sample.regions, (shape[0], shape[1])), seen.found)
        if not n_marks:
            return all_marked(np.ones(shape, dtype=bool), seen.found)
        labels = by_trust(seen.found, np.zeros_like(has_mark), seen.views, seen.foreground)
        sure = trust >= self.keep
        if sure.sum() >= FEWEST_SURE and has_mark[sure].mean() >= MOSTLY_MARKED:
            labels[np.append(False, sure & ~has_mark)[seen.found]] = 0
        return labels

    def _look(self, image: Image, side_px: int | None = LESSON_PX, diameter_px: float | None = None) -> _Seen:
        """Look at the busiest part of an image, or all of it.

        side_px: of the part, at canonical scale. diameter_px: of the cells, if anyone has said; estimated if not.
        """
        pyramid = Pyramid(normalise(image.pixels))
        diameter = diameter_px or self.segmenter.likely_diameter(pyramid, search=False)
        if diameter is None:
            return self._saw_nothing(pyramid)
        window = pyramid.whole
        if side_px is not None:
            window = busiest_window(pyramid, round(side_px * diameter / self.segmenter.facts.canonical_diameter_px))
        part = normalise(image.pixels[:, *slices(window)])
        min_score = self.segmenter.facts.min_score
        first, foreground = self._find(part, diameter, View(), min_score=0)
        if diameter_px is None and first.scores.max(initial=0) < self.segmenter.facts.min_surest:
            return self._saw_nothing(pyramid)
        views = []
        for view in VIEWS:
            seen, likely = self._find(part, diameter, view, min_score)
            views.append(seen.labels)
            foreground = np.maximum(foreground, likely)
        features = _features(first.scores.astype(np.float64), agreement(first.labels, views))
        # Cells among others that are much smaller are found in none of these; they are not background.
        views.append(self._find(part, diameter, View(scale=1 / COARSER), min_score)[0].labels)
        return _Seen(window, first.labels, views, foreground, features, diameter)

    def _find(self, part: FloatArray, diameter_px: float, view: View, min_score: float) -> tuple[Instances, FloatArray]:
        """The cells in a view of a part of an image, and what the network says of each pixel, both turned back."""
        pixels, segmenter = view.of(part), self.segmenter
        shape = (pixels.shape[1], pixels.shape[2])
        factor = min(segmenter.facts.canonical_diameter_px * view.scale / diameter_px, LARGEST_FACTOR)
        segmenter.check_memory(shape, factor)
        packed = segmenter.predict(Pyramid(pixels), factor)
        found = segmenter.decode_packed(packed, min_score)
        found = Instances(resize_labels(found.labels, shape), found.scores).of_area(1)
        representation = segmenter.representation
        likely = representation.foreground(representation.from_bytes(packed))
        cells = Instances(view.undo.of(found.labels), found.scores)
        return cells, view.undo.of(resize_image(likely[np.newaxis], shape)[0])

    def _find_near(self, image: Image, diameter_px: float, boxes: NDArray[np.float64]) -> Labels:
        """For each box the cell that fits it best, of all that may be read from what is predicted at BOX_SCALES."""
        pyramid, representation = Pyramid(normalise(image.pixels)), self.segmenter.representation
        found = []
        for scale in BOX_SCALES:
            factor = min(self.segmenter.facts.canonical_diameter_px * scale / diameter_px, LARGEST_FACTOR)
            self.segmenter.check_memory(pyramid.shape, factor)
            prediction = representation.from_bytes(self.segmenter.predict(pyramid, factor))
            grid = (prediction.shape[1], prediction.shape[2])
            on_grid = boxes * np.tile(np.array(grid) / pyramid.shape, 2)
            cells = representation.decode_near(prediction, with_ellipses(np.zeros(grid, np.int32), on_grid, 1, 1.0))
            found.append(resize_labels(cells.labels, pyramid.shape))
        return best_in_boxes(found, boxes)

    def _saw_nothing(self, pyramid: Pyramid) -> _Seen:
        nothing = np.zeros(pyramid.shape, dtype=np.int32)
        return _Seen(pyramid.whole, nothing, [], nothing.astype(np.float32), np.zeros((0, N_FEATURES)), None)


def _features(scores: NDArray[np.float64], agreements: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.column_stack([clipped_logit(scores), agreements]).astype(np.float64)


def _fit_trust(features: NDArray[np.float64], right: NDArray[np.bool_]) -> Scorer:
    """How likely cells of such features are right; few cells teach little beyond what score and agreement say.

    A cell whose score and agreements are all 0.8 is right with a probability of 0.8, as far as nothing tells otherwise.
    """
    prior = _features(PRIOR, np.repeat(PRIOR[:, None], features.shape[1] - 1, axis=1))
    cells = np.concatenate([features, prior, prior])
    are_right = np.concatenate([right, np.ones(len(prior), dtype=bool), np.zeros(len(prior), dtype=bool)])
    weights = np.concatenate([np.ones(len(right)), *(PRIOR_CELLS / len(PRIOR) * p for p in (PRIOR, 1 - PRIOR))])
    return Scorer.fit(cells, are_right, weights)
