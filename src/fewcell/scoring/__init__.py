"""How likely an instance is right: its features, and a small calibrated model of them."""

from fewcell.scoring.scorer import Scorer, clipped_logit, ellipse_axes, instance_features, n_features

__all__ = ["Scorer", "clipped_logit", "ellipse_axes", "instance_features", "n_features"]
