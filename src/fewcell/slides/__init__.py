"""Slides: images too large to be held in memory, tile by tile, with seams that do not show."""

from fewcell.slides.plan import SlidePlan, plan_slide
from fewcell.slides.segment_slide import SlideProgress, SlideSegmentation, segment_slide

__all__ = ["SlidePlan", "SlideProgress", "SlideSegmentation", "plan_slide", "segment_slide"]
