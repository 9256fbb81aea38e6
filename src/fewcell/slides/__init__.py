"""Slides: images too large to be held in memory, tile by tile, with seams that do not show."""

from fewcell.slides.files import LARGE_PX, SegmentedSlide, is_slide, segment_inputs
from fewcell.slides.plan import SlidePlan, plan_slide
from fewcell.slides.segment_slide import SlideProgress, SlideSegmentation, segment_slide

__all__ = [
    "LARGE_PX",
    "SegmentedSlide",
    "SlidePlan",
    "SlideProgress",
    "SlideSegmentation",
    "is_slide",
    "plan_slide",
    "segment_inputs",
    "segment_slide",
]
