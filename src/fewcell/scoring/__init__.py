"""How likely an instance is right: its features, and a small calibrated model of them."""

from fewcell.scoring.scorer import Scorer, instance_features, n_features

__all__ = ["Scorer", "instance_features", "n_features"]
