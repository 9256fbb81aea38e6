"""Where the scale network is wrong and says that there are cells."""

import numpy as np
import pytest

from fewcell.scoring import Scorer
from fewcell.segmenter import Segmenter
from fewcell.segmenter.scale import Estimate


@pytest.fixture
def segmenter(trained, monkeypatch):
    monkeypatch.setattr(Segmenter, "estimate_scale", lambda *_, **__: Estimate(22.0, 0.99))
    return Segmenter.load(trained.folder, threads=1)


class Doubtful(Scorer):
    def __call__(self, features):
        return np.minimum(super().__call__(features), np.float32(0.6))


def test_specks_are_no_cells(segmenter, draw_discs, monkeypatch):
    image, _ = draw_discs(7, (200, 260))
    monkeypatch.setattr(Segmenter, "estimate_scale", lambda *_, **__: Estimate(3.6, 0.99))
    assert segmenter.segment(image).diameter_source == "not known"
    given = segmenter.segment(image, diameter_px=3.6)
    assert (given.diameter_source, given.larger_px) == ("given", None)


def test_asking_for_sure_cells_does_not_make_an_image_empty_of_others(segmenter, draw_discs):
    """That no cell is as sure as one asks for tells nothing of the scale."""
    image, _ = draw_discs(7, (200, 260))
    segmenter.facts = segmenter.facts.model_copy(update={"min_surest": 0.65})
    found = segmenter.segment(image, min_score=1)
    used_px = segmenter.facts.canonical_diameter_px / segmenter.factors(image.shape, 22.0, is_given=False)[0]
    assert (len(found.scores), found.diameter_source, found.diameter_px) == (0, "estimated", used_px)


def test_an_image_in_which_no_cell_is_sure_has_none_unless_its_scale_is_given(segmenter, draw_discs):
    image, labels = draw_discs(7, (200, 260))
    assert len(segmenter.segment(image).scores) > 0.7 * labels.max()
    segmenter.facts = segmenter.facts.model_copy(update={"min_surest": 0.65})
    segmenter.scorer = Doubtful(**segmenter.facts.scorer.model_dump())
    found = segmenter.segment(image)
    assert (len(found.scores), found.diameter_source, found.labels.shape) == (0, "not known", image.shape)
    assert len(segmenter.segment(image, diameter_px=22.0, min_score=0.1).scores) > 0.7 * labels.max()
