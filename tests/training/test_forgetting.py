"""What a model still finds in drawn images of what another one found."""

from types import SimpleNamespace

import numpy as np
import pytest

from fewcell.segmenter import Segmenter
from fewcell.training.forgetting import FEWEST_CELLS, Drawn, found_in_drawn, still_found


def test_a_model_still_finds_what_it_finds_itself(trained, all_drawn) -> None:
    segmenter = Segmenter.load(trained.folder)
    drawn = found_in_drawn(segmenter)
    assert len(drawn) >= 3
    assert all(field.found.max() >= FEWEST_CELLS for field in drawn)
    assert still_found(segmenter, drawn) == 1.0


def test_what_is_no_longer_found_counts_image_by_image(trained, monkeypatch) -> None:
    segmenter = Segmenter.load(trained.folder)
    labels = np.zeros((32, 64), dtype=np.int32)
    for number, left in enumerate((4, 24, 44), 1):
        labels[8:20, left : left + 12] = number
    picture = np.zeros((3, 32, 64), dtype=np.float32)
    half = np.where(labels == 1, 1, 0).astype(np.int32)
    found = iter([labels, half])
    monkeypatch.setattr(Segmenter, "segment", lambda *_, **__: SimpleNamespace(labels=next(found)))
    assert still_found(segmenter, [Drawn(picture, labels)] * 2) == pytest.approx((1 + 0.5) / 2)
    assert still_found(segmenter, []) is None
    monkeypatch.setattr(Segmenter, "segment", lambda *_, **__: SimpleNamespace(labels=labels))
    cut = np.zeros_like(labels)
    cut[:6, 4:16] = 1
    assert still_found(segmenter, [Drawn(picture, cut)]) is None, "cells that the frame cuts are not scored"
    assert still_found(segmenter, [Drawn(picture, cut), Drawn(picture, labels)]) == 1.0
