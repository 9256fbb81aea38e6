"""Slides: images too large to be held in memory, tile by tile, with seams that do not show."""

from fewcell.slides.files import ALWAYS, LARGE_PX, SegmentedSlide, is_slide, segment_inputs
from fewcell.slides.plan import SlidePlan, plan_slide
from fewcell.slides.run import Execution, SlideProgress
from fewcell.slides.segment_slide import SlideSegmentation, merge_slide, segment_shard, segment_slide

__all__ = [
    "ALWAYS",
    "LARGE_PX",
    "Execution",
    "SegmentedSlide",
    "SlidePlan",
    "SlideProgress",
    "SlideSegmentation",
    "is_slide",
    "merge_slide",
    "plan_slide",
    "segment_inputs",
    "segment_shard",
    "segment_slide",
]
