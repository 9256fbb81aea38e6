"""The end of training: thresholds and scorer fitted on held-out images, and the model folder written."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewcell import __version__
from fewcell.config import Part, Recipe
from fewcell.data.dataset import Sample, load_labelled
from fewcell.data.empties import empty_image, out_of_focus
from fewcell.data.split import label_order
from fewcell.engine import Engine, OpenVinoEngine
from fewcell.images import Pyramid, normalise, resize_labels
from fewcell.metrics import f1, match, overlaps
from fewcell.networks import Network
from fewcell.representations import Representation
from fewcell.scoring import Scorer, instance_features
from fewcell.segmenter import (
    ModelFacts,
    NetworkFacts,
    ScorerFacts,
    Segmenter,
    SourceFacts,
    find_model,
    predict_at_scale,
    read_model,
    write_model,
)
from fewcell.training.export import export_network, round_weights
from fewcell.types import FloatArray, Labels

__all__ = ["SUREST_SHARE", "count_sources", "finish", "joined", "surest_cells"]

SCALES = (1.0, 0.8, 1.25)  # the scorer also sees cells of a size that was estimated wrongly
UNUSUAL = 0.3  # how much a cell counts for the scorer that was found at another scale, or where there is none
EMPTY_IMAGES = 40
UNFOCUSED_IMAGES = 20
HELD_OUT_IMAGES = 300  # at most, of very many; their predictions are all kept in memory
LEARNED_IMAGES = 200  # that were learned from, and that a decoding which fits a model is fitted to as well
FACTS_IMAGES = 60  # are enough to know how far off estimates of the diameter are, and how sure the surest cells
FEWEST_IMAGES, SUREST_SHARE = 20, 0.7  # of fewer images, the least sure says little; a microscope may be harder
FEWEST_CELLS = 5  # of fewer, the median diameter says little
FOLDS = 5
MIN_SCORES = np.arange(0.05, 0.75, 0.025)


@dataclass(frozen=True)
class _Case:
    """One held-out image at one scale, as the network sees it, with its truth on the network's grid.

    weight: how much its cells count for the scorer.
    """

    prediction: FloatArray
    labels: Labels
    fold: int
    modality: str
    weight: float = 1.0


@dataclass(frozen=True)
class _Judged:
    """What was found in one case: features, whether each instance is right, and whether that is known."""

    weight: float
    found: Labels
    features: NDArray[np.float64]
    right: NDArray[np.bool_]
    known: NDArray[np.bool_]


def finish(
    network: Network,
    representation: Representation,
    recipe: Recipe,
    learned_from: Sequence[Sample],
    held_out: Sequence[Sample],
    folder: Path,
    scale: Path,
    *,
    also_seen: Sequence[Sample] = (),
) -> None:
    """Fit thresholds and scorer on held-out images and write the model folder, whole or not at all.

    The exported network itself is run, so what is fitted is what is shipped. The score below which cells are dropped
    is chosen on scores that a scorer fitted to other folds gave; a fold holds whole experiments. The scorer learns from
    cells that no model in their decoding was fitted to; settings are the same for all. Only a decoding that fits a
    model is also fitted to images that were learned from: there are many more of them. Of very many held-out images
    HELD_OUT_IMAGES are used, spread over all.

    scale: the file of the network that tells the scale. also_seen: images without labels that the network has learned
    from.
    """
    round_weights(network)
    held_out = [held_out[i] for i in sorted(label_order(held_out)[:HELD_OUT_IMAGES])]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        onnx, weights = Path(temporary) / "network.onnx", Path(temporary) / "weights.safetensors"
        export_network(network, representation, onnx, weights)
        engine = OpenVinoEngine(onnx, threads=recipe.threads)
        part = NetworkFacts(
            **recipe.network.model_dump(),
            stride=network.stride,
            multiple_px=network.multiple_px,
            reach_px=network.reach_px,
            window_px=network.window_px,
        )
        fold = {name: i % FOLDS for i, name in enumerate(sorted({s.experiment for s in held_out}))}
        kept = _as_kept(engine, representation)
        cases = [c for s in held_out for c in _cases(s, fold[s.experiment], kept, part, recipe)]
        # Each image at its true scale, and at one of the others in turn.
        tuned_on = [case for i, case in enumerate(cases) if i % len(SCALES) in (0, 1 + i // len(SCALES) % 2)]
        learned = _learned(learned_from, kept, part, recipe) if representation.fits_model else []
        empty = _empty_cases(held_out, kept, part, recipe)
        by_fold = _fit_folds(representation, tuned_on + empty, learned)
        representation = representation.refit(*_all_of(tuned_on + empty, learned))
        representation, by_fold = _tune(representation, by_fold, tuned_on)
        cases += empty
        judged = [_judge(case, by_fold.get(case.fold, representation)) for case in cases]
        scorer = _fit(judged)
        min_score, scores = _choose_min_score(cases, judged)
        facts = ModelFacts(
            fewcell_version=__version__,
            network=part,
            representation=Part(name=recipe.representation.name, settings=vars(representation)),
            scorer=ScorerFacts(**asdict(scorer)),
            min_score=min_score,
            canonical_diameter_px=recipe.canonical_diameter_px,
            diameter_bias=1.0,
            min_surest=0.0,
            trained_on=joined(_learned_before(recipe), count_sources(learned_from, also_seen)),
            held_out=scores,
            recipe=recipe.model_dump(mode="json"),
            sha256={},
        )
        segmenter = Segmenter(engine, representation, scorer, facts, scale.parent)
        known = {"diameter_bias": _diameter_bias(segmenter, held_out), "min_surest": _min_surest(segmenter, held_out)}
        write_model(folder, facts.model_copy(update=known), onnx, scale, weights)


def _as_kept(engine: Engine, representation: Representation) -> Engine:
    """An engine whose predictions are as they are when the segmenter reads cells from them: kept in bytes."""
    return lambda image: representation.from_bytes(representation.to_bytes(engine(image)))


Learned = Sequence[tuple[FloatArray, Labels]]


def _learned(samples: Sequence[Sample], engine: Engine, network: NetworkFacts, recipe: Recipe) -> Learned:
    """Predictions and labels of images that were learned from, spread over all."""
    return [
        (prediction, labels)
        for i in label_order(samples)[:LEARNED_IMAGES]
        for prediction, labels in _predictions(samples[i], engine, network, recipe, (1.0,))
    ]


def _fit_folds(representation: Representation, cases: Sequence[_Case], learned: Learned) -> dict[int, Representation]:
    """For each fold, where decoding has a model, one that was fitted without that fold, if any cell is left then."""
    fitted = {}
    for fold in sorted({case.fold for case in cases}) if representation.fits_model else ():
        predictions, labels = _all_of([case for case in cases if case.fold != fold], learned)
        if any(np.any(truth > 0) for truth in labels):
            fitted[fold] = representation.refit(predictions, labels)
    return fitted


def _tune(
    representation: Representation, by_fold: dict[int, Representation], cases: Sequence[_Case]
) -> tuple[Representation, dict[int, Representation]]:
    """Choose settings, each case read by the model of its fold; they are the same for all folds."""
    representation = representation.tune(*_all_of(cases), [by_fold.get(case.fold, representation) for case in cases])
    chosen = {name: getattr(representation, name) for name in representation.tuned}
    return representation, {fold: replace(fitted, **chosen) for fold, fitted in by_fold.items()}


def _all_of(cases: Sequence[_Case], learned: Learned = ()) -> tuple[list[FloatArray], list[Labels]]:
    pairs = [(case.prediction, case.labels) for case in cases] + [*learned]
    return [prediction for prediction, _ in pairs], [labels for _, labels in pairs]


def _diameter_bias(segmenter: Segmenter, held_out: Sequence[Sample]) -> float:
    """Measured over true diameter at the true scale, the median of held-out images with enough cells; 1 without any."""
    ratios = []
    for sample in (held_out[i] for i in _spread(held_out, FACTS_IMAGES)):
        image, labels, true = load_labelled(sample)
        if true is not None and len(np.unique(labels[labels > 0])) >= FEWEST_CELLS:
            measured = segmenter.measure_diameter(Pyramid(normalise(image.pixels)), true)
            ratios += [measured / true] if measured else []
    return round(float(np.median(ratios)), 3) if ratios else 1.0


def _min_surest(segmenter: Segmenter, held_out: Sequence[Sample]) -> float:
    """How sure the surest cell of an image must be; 0 where there are too few held-out images to tell."""
    surest = surest_cells(segmenter, held_out)
    return round(SUREST_SHARE * min(surest), 3) if len(surest) >= FEWEST_IMAGES else 0.0


def surest_cells(segmenter: Segmenter, held_out: Sequence[Sample]) -> list[float]:
    """The highest score in each of these images in which any cell is found."""
    surest = []
    for sample in (held_out[i] for i in _spread(held_out, FACTS_IMAGES)):
        image, _, true = load_labelled(sample)
        found = segmenter.segment(image, diameter_px=true).scores if true else ()
        surest += [float(max(found))] if len(found) else []
    return surest


def _cases(sample: Sample, fold: int, engine: Engine, network: NetworkFacts, recipe: Recipe) -> list[_Case]:
    predictions = _predictions(sample, engine, network, recipe, SCALES)
    weights = (1.0, *[UNUSUAL] * (len(SCALES) - 1))
    return [_Case(*seen, fold, sample.modality, weight) for seen, weight in zip(predictions, weights, strict=True)]


def _predictions(
    sample: Sample, engine: Engine, network: NetworkFacts, recipe: Recipe, scales: Sequence[float]
) -> Iterator[tuple[FloatArray, Labels]]:
    """What the network says of an image at these scales (1: canonical), and the labels on its grid."""
    image, labels, diameter_px = load_labelled(sample)
    pyramid = Pyramid(normalise(image.pixels))
    factor = recipe.canonical_diameter_px / (diameter_px or recipe.canonical_diameter_px)
    for scale in scales:
        prediction = predict_at_scale(pyramid, factor * scale, engine, network)
        height, width = prediction.shape[1:]
        yield prediction, resize_labels(labels, (height, width))


def _empty_cases(held_out: Sequence[Sample], engine: Engine, network: NetworkFacts, recipe: Recipe) -> list[_Case]:
    """Drawn images without any cell, and held-out images so far out of focus that nothing is left of their cells."""
    images = [(empty_image((256, 256), np.random.default_rng((2, i))), 1.0) for i in range(EMPTY_IMAGES)]
    for i, which in enumerate(_spread(held_out, UNFOCUSED_IMAGES)):
        image, _, true = load_labelled(held_out[which])
        diameter = true or recipe.canonical_diameter_px
        pixels = normalise(image.pixels).transpose(1, 2, 0)
        blurred = out_of_focus(pixels, diameter, np.random.default_rng((3, i)))
        images.append((blurred, recipe.canonical_diameter_px / diameter))
    cases = []
    for i, (pixels, factor) in enumerate(images):
        pyramid = Pyramid(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        prediction = predict_at_scale(pyramid, factor, engine, network)
        cases.append(_Case(prediction, np.zeros(prediction.shape[1:], dtype=np.int32), i % FOLDS, "empty", UNUSUAL))
    return cases


def _spread(samples: Sequence[Sample], count: int) -> list[int]:
    """At most so many places in a sequence, evenly spread."""
    return np.unique(np.linspace(0, len(samples) - 1, count).round().astype(int)).tolist()


def _judge(case: _Case, representation: Representation) -> _Judged:
    found = representation.decode(case.prediction)
    right, known = overlaps(case.labels, found.labels).right_and_known()
    return _Judged(case.weight, found.labels, instance_features(found, case.prediction), right, known)


def _fit(judged: Sequence[_Judged]) -> Scorer:
    features = np.concatenate([j.features[j.known] for j in judged])
    weights = np.concatenate([np.full(j.known.sum(), j.weight) for j in judged])
    return Scorer.fit(features, np.concatenate([j.right[j.known] for j in judged]), weights)


def _choose_min_score(cases: Sequence[_Case], judged: Sequence[_Judged]) -> tuple[float, dict[str, float]]:
    """The threshold of the highest mean F1 over held-out images, and the scores it reaches, per modality.

    Images without cells count as well, 1 if nothing is found in one, else 0: together a twentieth of the others.

    Where the other folds hold no right instance (all of them lie in one experiment), the scorer is fitted to all.
    """
    f1s, modalities = [], []
    for fold in range(FOLDS):
        others = [j for c, j in zip(cases, judged, strict=True) if c.fold != fold]
        scorer = _fit(others if any(j.right.any() for j in others) else judged)
        for case, found in zip(cases, judged, strict=True):
            if case.fold == fold:
                f1s.append(_f1_by_threshold(case.labels, found, scorer(found.features)))
                modalities.append(case.modality)
    is_empty = np.array([modality == "empty" for modality in modalities])
    weights = np.where(is_empty, 0.05 * (~is_empty).sum() / is_empty.sum(), 1.0)
    best = int(np.average(f1s, axis=0, weights=weights).argmax())
    at_best = {
        modality: [row[best] for row, its in zip(f1s, modalities, strict=True) if its == modality]
        for modality in sorted(set(modalities))
    }
    empty_right = float(np.mean(at_best.pop("empty")))
    scores = {"f1_50": float(np.mean([value for values in at_best.values() for value in values]))}
    scores |= {f"f1_50_{modality}": float(np.mean(values)) for modality, values in at_best.items()}
    scores["empty_images_left_empty"] = empty_right
    return round(float(MIN_SCORES[best]), 3), {name: round(value, 4) for name, value in scores.items()}


def _f1_by_threshold(truth: Labels, judged: _Judged, scores: FloatArray) -> list[float]:
    results = []
    for threshold in MIN_SCORES:
        kept = np.concatenate([[0], np.where(scores >= threshold, np.arange(1, len(scores) + 1), 0)])
        counts = match(truth, kept[judged.found].astype(np.int32))
        nothing_there_nor_found = counts.n_true == counts.n_predicted == 0
        results.append(1.0 if nothing_there_nor_found else f1(counts))
    return results


def _learned_before(recipe: Recipe) -> dict[str, SourceFacts]:
    return read_model(find_model(recipe.start)).trained_on if recipe.start else {}


def count_sources(labelled: Sequence[Sample], unlabelled: Sequence[Sample] = ()) -> dict[str, SourceFacts]:
    """How many of these images are of each source, and its licence."""
    counts, others = Counter(s.source for s in labelled), Counter(s.source for s in unlabelled)
    licences = {s.source: s.licence for s in (*unlabelled, *labelled)}
    return {
        source: SourceFacts(images=counts[source], licence=licence, unlabelled=others[source])
        for source, licence in sorted(licences.items())
    }


def joined(before: dict[str, SourceFacts], now: dict[str, SourceFacts]) -> dict[str, SourceFacts]:
    """What was learned from in two trainings; images of one source are taken to be the same, as far as they go."""
    both = before | now
    for source in before.keys() & now.keys():
        counts = {n: max(getattr(before[source], n), getattr(now[source], n)) for n in ("images", "unlabelled")}
        both[source] = now[source].model_copy(update=counts)
    return both
