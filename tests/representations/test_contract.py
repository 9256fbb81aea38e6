"""The contract of representations; every variant of the table is picked up by itself."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fewcell.errors import ConfigError
from fewcell.metrics import f1, match, overlaps
from fewcell.representations import REPRESENTATIONS, Representation, make_representation
from fewcell.types import UNKNOWN, FloatArray, Labels

from .scenes import SCENES, scattered

if TYPE_CHECKING:
    from torch import Tensor

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
VIEWS = list(product(range(4), (False, True)))
SMALL = scattered(3, 4, seed=1)

every_variant = pytest.mark.parametrize(
    "representation", [v() for v in REPRESENTATIONS.values()], ids=[*REPRESENTATIONS]
)
every_scene = pytest.mark.parametrize("scene", SCENES)


def as_tensors(representation: Representation, labels: Labels) -> tuple["Tensor", "Tensor"]:
    """Targets and known pixels of one image, as a batch of one."""
    return torch.from_numpy(representation.targets(labels))[None], torch.from_numpy(labels != UNKNOWN)[None]


def learned(representation: Representation, labels: Labels, steps: int = 150) -> "Tensor":
    """The raw output that a perfect network would learn: the loss, descended from nothing."""
    targets, known = as_tensors(representation, labels)
    output = torch.zeros_like(targets, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        representation.loss(output, targets, known).backward()
        optimizer.step()
    return output.detach()


def smooth_output(representation: Representation, shape: tuple[int, ...], seed: int) -> "Tensor":
    """Raw output without any sense, in blobs of all sizes."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(representation.channels), *shape))
    blobs = [ndimage.gaussian_filter(channel, rng.uniform(1, 4)) for channel in noise]
    return torch.from_numpy(np.stack([4 * b / b.std() for b in blobs]).astype(np.float32))[None]


def noisy_prediction(representation: Representation, labels: Labels, seed: int) -> FloatArray:
    """The truth's targets, mixed with as much nonsense: what a network predicts that has learned a little."""
    nonsense = representation.activate(smooth_output(representation, labels.shape, seed))[0].numpy()
    return (0.55 * representation.targets(labels) + 0.45 * nonsense).astype(np.float32)


def turned(labels: Labels, quarters: int, flip: bool) -> Labels:
    return np.ascontiguousarray(np.rot90(labels[:, ::-1] if flip else labels, quarters))


def mean_iou(true: Labels, found: Labels) -> float:
    """Over true cells, the IoU with the found cell that fits best."""
    table = overlaps(true, found)
    best = np.zeros(table.n_true)
    np.maximum.at(best, table.pair_true, table.pair_iou)
    return float(best.mean())


@every_variant
@every_scene
def test_decode_of_targets_gives_the_labels_back(representation: Representation, scene: str) -> None:
    """As many cells as there are, at the IoU that the variant states; a bound that is stated is no worse than true."""
    labels = SCENES[scene].copy()
    targets = representation.targets(labels)
    assert np.array_equal(labels, SCENES[scene])
    assert targets.dtype == np.float32
    assert targets.shape == (len(representation.channels), *labels.shape)
    given_targets = targets.copy()
    found = representation.decode(targets)
    assert np.array_equal(targets, given_targets)
    assert found.labels.dtype == np.int32
    assert np.array_equal(np.unique(found.labels[found.labels > 0]), np.arange(1, len(found) + 1))
    assert found.scores.dtype == np.float32
    assert np.all((found.scores >= 0) & (found.scores <= 1))
    if scene in representation.contract_bounds:
        bound, reason = representation.contract_bounds[scene]
        assert bound <= mean_iou(labels, found.labels) < bound + 0.05
        assert bound < representation.contract_iou
        assert len(reason) > 20
        return
    assert len(found) == len(np.unique(labels[labels > 0]))
    assert not labels.any() or mean_iou(labels, found.labels) >= representation.contract_iou


@every_variant
def test_bounds_are_of_scenes_and_every_variant_is_tuned_with_the_same_effort(representation: Representation) -> None:
    assert set(representation.contract_bounds) <= set(SCENES)
    assert set(representation.tuned) <= {field.name for field in fields(representation)}
    assert np.prod([len(values) for values in representation.tuned.values()]) == 20


@every_variant
@every_scene
def test_targets_are_in_the_ranges_that_the_channels_state(representation: Representation, scene: str) -> None:
    targets = representation.targets(SCENES[scene])
    for channel, values in zip(representation.channels, targets, strict=True):
        assert channel.low - 1e-6 <= values.min() <= values.max() <= channel.high + 1e-6, channel


@every_variant
@every_scene
def test_the_foreground_of_targets_is_where_cells_are(representation: Representation, scene: str) -> None:
    labels = SCENES[scene]
    foreground = representation.foreground(representation.targets(labels))
    assert foreground.shape == labels.shape
    assert foreground[labels > 0].min(initial=1) > 0
    assert foreground[labels == 0].max(initial=0) < 1e-6


@every_variant
def test_activate_gives_values_in_the_ranges_that_the_channels_state(representation: Representation) -> None:
    shape = (2, len(representation.channels), 9, 7)
    for size in (0.1, 5.0, 100.0):
        output = size * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        prediction = representation.activate(output)
        assert prediction.shape == shape
        for i, channel in enumerate(representation.channels):
            low, high = float(prediction[:, i].min()), float(prediction[:, i].max())
            assert channel.low - 1e-6 <= low <= high <= channel.high + 1e-6, channel


@every_variant
def test_unknown_pixels_give_no_gradient(representation: Representation) -> None:
    labels = SMALL.copy()
    labels[20:45, 18:50] = UNKNOWN
    targets, known = as_tensors(representation, labels)
    hidden = ~known[:, None].expand_as(targets)
    output = torch.randn(targets.shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss = representation.loss(output, targets, known)
    loss.backward()
    assert output.grad is not None
    assert not output.grad[hidden].any()
    assert output.grad[~hidden].any()

    other_output = torch.where(hidden, 3 * torch.randn(targets.shape), output.detach())
    other_targets = torch.where(hidden, torch.rand(targets.shape), targets)
    assert float(representation.loss(other_output, targets, known)) == pytest.approx(loss.item(), rel=1e-6)
    assert float(representation.loss(other_output, other_targets, known)) == pytest.approx(loss.item(), rel=1e-6)


@every_variant
def test_nothing_known_costs_nothing(representation: Representation) -> None:
    targets, known = as_tensors(representation, np.full((24, 40), UNKNOWN, dtype=np.int32))
    assert bool(torch.isfinite(targets).all())
    output = torch.randn(targets.shape, requires_grad=True)
    loss = representation.loss(output, targets, known)
    loss.backward()
    assert loss.shape == ()
    assert abs(loss.item()) < 1e-6
    assert output.grad is not None
    assert not output.grad.any()


@every_variant
@pytest.mark.parametrize("scene", ["empty", "touching", "elongated"])
def test_the_loss_falls_towards_the_truth(representation: Representation, scene: str) -> None:
    labels = SCENES[scene]
    targets, known = as_tensors(representation, labels)
    right = learned(representation, labels)
    wrong = (-right, torch.zeros_like(right), smooth_output(representation, labels.shape, 2))
    for start in wrong:
        losses = [
            float(representation.loss(torch.lerp(start, right, t), targets, known)) for t in (0, 0.25, 0.5, 0.75, 1)
        ]
        assert np.all(np.isfinite(losses))
        assert losses == sorted(set(losses), reverse=True)


@every_variant
@pytest.mark.parametrize("scene", ["empty", "touching", "elongated"])
def test_who_descends_the_loss_finds_the_cells(representation: Representation, scene: str) -> None:
    labels = SCENES[scene]
    prediction = representation.activate(learned(representation, labels))[0].numpy()
    found = representation.decode(prediction)
    assert len(found) == len(np.unique(labels[labels > 0]))
    assert not labels.any() or mean_iou(labels, found.labels) > 0.85


@every_variant
@pytest.mark.parametrize(("quarters", "flip"), VIEWS)
def test_turning_targets_is_turning_labels(representation: Representation, quarters: int, flip: bool) -> None:
    for labels in (SMALL, SCENES["elongated"], SCENES["touching"]):
        after = representation.turn(representation.targets(labels), quarters=quarters, flip=flip)
        before = representation.targets(turned(labels, quarters, flip))
        assert after.shape == before.shape
        assert np.abs(after - before).mean() <= representation.turn_tolerance


@every_variant
def test_targets_near_the_edge_of_a_crop_are_those_of_the_whole(representation: Representation) -> None:
    margin = representation.margin_px
    start, stop = margin + 11, margin + 61
    lattice = (stop + margin) // 15 + 1
    labels = scattered(lattice, lattice, seed=6)
    wide = slice(start - margin, stop + margin)
    cropped = representation.targets(labels[wide, wide])[:, margin : margin + 50, margin : margin + 50]
    whole = representation.targets(labels)[:, start:stop, start:stop]
    assert np.abs(cropped - whole).mean() <= representation.turn_tolerance


def _instances_within(found: Labels, mask: np.ndarray) -> Labels:
    """`found` without the cells that have no pixel in the mask."""
    return np.where(np.isin(found, np.unique(found[mask])), found, 0)


@every_variant
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), sensible=st.booleans())
def test_an_instance_depends_on_nothing_beyond_its_reach(
    representation: Representation, seed: int, sensible: bool
) -> None:
    reach = representation.reach_px
    if reach is None:
        pytest.skip("states no bound")
    side = 2 * reach + 60
    shape = (side, min(side, 120)) if seed % 2 else (min(side, 120), side)  # a strip says as much, and sooner
    first, second = (representation.activate(smooth_output(representation, shape, seed + i))[0].numpy() for i in (0, 1))
    if sensible:
        labels = scattered(shape[0] // 15 - 1, shape[1] // 15 - 1, seed=seed % 1000)
        part = (slice(None), slice(0, labels.shape[0]), slice(0, labels.shape[1]))
        first[part] = 0.7 * representation.targets(labels) + 0.3 * first[part]
    found = representation.decode(first)
    rng = np.random.default_rng(seed)
    for number in rng.permutation(np.arange(1, len(found) + 1))[:6]:
        cell = found.labels == number
        near = ndimage.maximum_filter(cell, size=2 * reach + 1, mode="constant")
        again = representation.decode(np.where(near, first, second)).labels
        assert np.array_equal(_instances_within(again, cell) > 0, cell)
        assert len(np.unique(again[cell])) == 1


DECODE_MANY = """
import sys
from pathlib import Path
import numpy as np
from fewcell.representations import make_representation
from tests.representations.scenes import scattered

def resident(which):
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(which))
    return 1024 * int(line.split()[1])

representation = make_representation(sys.argv[1])
representation.decode(representation.targets(scattered(6, 6, seed=0, pitch=12)))  # what is loaded and compiled once
if representation.fits_model:
    labels = scattered(6, 6, seed=0, pitch=12)
    representation = representation.refit([representation.targets(labels)], [labels])
targets = representation.targets(scattered(60, 60, seed=0, pitch=12))
noise = np.random.default_rng(0).normal(0, 0.1, targets.shape)
prediction = np.clip(targets + noise, targets.min(), targets.max()).astype(np.float32)
del targets, noise
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
representation.decode(prediction)
print((resident("VmHWM") - before + prediction.nbytes) / prediction[0].size)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_decoding_takes_no_more_memory_than_stated(name: str) -> None:
    run = [sys.executable, "-c", DECODE_MANY, name]
    # Memory that is freed goes back to the system, so that what decoding takes is counted.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    bytes_per_px = float(subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT, env=env).stdout)
    assert bytes_per_px <= 1.1 * REPRESENTATIONS[name].decode_bytes


@every_variant
def test_settings_are_chosen_by_the_models_that_read_and_models_are_fitted_by_refit(
    representation: Representation,
) -> None:
    truths = [scattered(3, 4, seed=i) for i in range(4)]
    predictions = [noisy_prediction(representation, labels, i) for i, labels in enumerate(truths)]
    fitted = representation.refit(predictions, truths)
    assert (fitted != representation) == representation.fits_model
    assert fitted.refit(predictions, truths) == fitted
    settings = [name for name in vars(representation) if name not in representation.tuned]
    tuned = representation.tune(predictions, truths, [fitted] * 4)
    assert all(getattr(tuned, name) == getattr(representation, name) for name in settings)
    as_fitted = fitted.tune(predictions, truths)
    assert all(getattr(tuned, name) == getattr(as_fitted, name) for name in representation.tuned)


@every_variant
def test_tune_is_never_worse_than_the_start(representation: Representation) -> None:
    truths = [scattered(3, 4, seed=i) for i in range(3)]
    predictions = [noisy_prediction(representation, labels, i) for i, labels in enumerate(truths)]

    def mean_f1(variant: Representation) -> float:
        decoded = (variant.decode(p).labels for p in predictions)
        return float(np.mean([f1(match(t, d)) for t, d in zip(truths, decoded, strict=True)]))

    nudged = {
        f.name: 0.93 * v for f in fields(representation) if isinstance(v := getattr(representation, f.name), float)
    }
    for start in (representation, replace(representation, **nudged)):
        as_it_was = asdict(start)
        tuned = start.tune(predictions, truths)
        assert type(tuned) is type(start)
        assert asdict(start) == as_it_was
        assert mean_f1(tuned) >= mean_f1(start)


@every_variant
def test_tune_without_any_image_changes_nothing(representation: Representation) -> None:
    assert representation.tune([], []) == representation


@every_variant
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 48)])
def test_a_blank_prediction_has_no_instance(representation: Representation, shape: tuple[int, int]) -> None:
    found = representation.decode(representation.targets(np.zeros(shape, dtype=np.int32)))
    assert len(found) == 0
    assert found.labels.shape == shape
    assert not found.labels.any()


@every_variant
def test_settings_are_frozen_and_survive_a_model_file(representation: Representation) -> None:
    (name,) = (name for name, variant in REPRESENTATIONS.items() if variant is type(representation))
    assert make_representation(name, json.loads(json.dumps(asdict(representation)))) == representation
    assert hash(representation) == hash(make_representation(name))
    for field in fields(representation):
        with pytest.raises(FrozenInstanceError):
            setattr(representation, field.name, getattr(representation, field.name))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_representation("boundry"), "did you mean 'boundary'"),
        (lambda: make_representation("boundary", {"grow": 2}), "did you mean 'grow_px'"),
        (lambda: make_representation("boundary", {"colour": 2}), "known: "),
    ],
)
def test_unknown_names_and_settings_are_errors(make: Callable[[], Representation], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


@every_variant
def test_a_prediction_kept_in_bytes_is_read_as_the_same_cells(representation: Representation) -> None:
    with torch.no_grad():
        prediction = representation.activate(smooth_output(representation, (96, 112), 3))[0].numpy()
    packed = representation.to_bytes(prediction)
    assert packed.dtype == np.uint8
    back = representation.from_bytes(packed)
    spans = np.array([channel.high - channel.low for channel in representation.channels])
    within = np.clip(prediction, *(np.array([[c.low, c.high] for c in representation.channels]).T[..., None, None]))
    assert (np.abs(back - within).max(axis=(1, 2)) <= 0.51 * spans / 254).all()
    np.testing.assert_array_equal(representation.to_bytes(back), packed)
    truth = scattered(6, 8, seed=4)
    targets = representation.targets(truth)
    kept = representation.decode(representation.from_bytes(representation.to_bytes(targets)))
    assert f1(match(truth, kept.labels)) >= 0.98
