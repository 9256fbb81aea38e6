"""How likely an instance is right: features that any representation offers, and a small calibrated model of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fewcell.types import FloatArray, Instances

__all__ = ["Scorer", "instance_features", "n_features"]

CLIP = 4.0  # standard deviations beyond which a feature tells no more
SURE = 1e-3  # a first guess that is surer than this tells no more
RIDGE = 1.0  # strength of the penalty on weights, in units of one instance


def n_features(channels: int) -> int:
    """How many features `instance_features` gives for a prediction of so many channels."""
    return 3 * channels + 5


def instance_features(found: Instances, prediction: FloatArray) -> NDArray[np.float64]:
    """Measure what tells a right instance from a wrong one: (n, 3 channels + 5) float64 for n instances.

    found: as decoded, with first-guess scores. prediction: (channel, height, width), on the same grid. For each
    channel its mean inside, on the rim (pixels of the instance next to anything else), and just outside; then the
    logarithm of the area, how much longer the rim is than a disc's, the elongation, the share of the rim that lies on
    the frame, and the logit of the first guess. All are sums over pixels, O(pixels + n).
    """
    labels = found.labels
    count = int(labels.max(initial=0))
    padded = np.pad(labels, 1, constant_values=-2)
    height, width = labels.shape
    rim = np.zeros(labels.shape, dtype=bool)
    outside_sum = np.zeros((len(prediction), count + 1))
    outside_count = np.zeros(count + 1)
    frame = np.zeros(labels.shape, dtype=bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        other = padded[dy : dy + height, dx : dx + width]
        rim |= other != labels
        frame |= other == -2
        y, x = np.nonzero((other != labels) & (other > 0))
        neighbour = other[y, x]
        outside_count += np.bincount(neighbour, minlength=count + 1)
        for channel, total in zip(prediction, outside_sum, strict=True):
            total += np.bincount(neighbour, weights=channel[y, x], minlength=count + 1)

    y, x = np.nonzero(labels > 0)
    ids = labels[y, x]
    on_rim = rim[y, x]

    def mean(values: NDArray, of: NDArray) -> NDArray[np.float64]:
        total = np.bincount(of, weights=values, minlength=count + 1)[1:]
        return total / np.maximum(np.bincount(of, minlength=count + 1)[1:], 1)

    columns = []
    for channel, outside in zip(prediction, outside_sum, strict=True):
        values = channel[y, x]
        columns += [mean(values, ids), mean(values[on_rim], ids[on_rim])]
        columns += [outside[1:] / np.maximum(outside_count[1:], 1)]
    area = np.bincount(ids, minlength=count + 1)[1:].astype(np.float64)
    rim_px = np.bincount(ids[on_rim], minlength=count + 1)[1:]
    cy, cx = mean(y, ids), mean(x, ids)
    syy, sxx = mean(y * y, ids) - cy**2 + 1 / 12, mean(x * x, ids) - cx**2 + 1 / 12
    sxy = mean(y * x, ids) - cy * cx
    spread = np.sqrt(np.maximum((syy - sxx) ** 2 / 4 + sxy**2, 0))
    long, short = (syy + sxx) / 2 + spread, np.maximum((syy + sxx) / 2 - spread, 1 / 12)
    columns += [np.log(np.maximum(area, 1)), rim_px / np.sqrt(np.maximum(area, 1)), np.log(long / short) / 2]
    columns += [np.bincount(ids[frame[y, x]], minlength=count + 1)[1:] / np.maximum(rim_px, 1)]
    guess = np.clip(found.scores.astype(np.float64), SURE, 1 - SURE)
    columns += [np.log(guess / (1 - guess))]
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Scorer:
    """A logistic model of standardised features and their squares; plain numbers, kept in the model file.

    mean, scale: one per feature. weights: one per feature, then one per squared feature. bias: one number.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    @property
    def n_features(self) -> int:
        """How many features it takes."""
        return len(self.mean)

    @property
    def numbers(self) -> tuple[float, ...]:
        """All of it in one row; `from_numbers` is the way back."""
        return (*self.mean, *self.scale, *self.weights, self.bias)

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> Self:
        """The scorer of which these are the `numbers`."""
        n = len(numbers) // 4
        mean, scale, weights = numbers[:n], numbers[n : 2 * n], numbers[2 * n : -1]
        return cls(tuple(mean), tuple(scale), tuple(weights), numbers[-1])

    def __call__(self, features: NDArray[np.floating]) -> FloatArray:
        """The probability that each instance is right: (..., feature) -> (...) float32."""
        logit = self._terms(features) @ np.array(self.weights) + self.bias
        return (0.5 * (1 + np.tanh(logit / 2))).astype(np.float32)

    @classmethod
    def fit(
        cls, features: NDArray[np.floating], right: NDArray[np.bool_], weights: NDArray[np.floating] | None = None
    ) -> Self:
        """Fit to instances of which one knows whether they are right (IoU >= 0.5 with a true cell).

        features: (n, feature). right: (n,). weights: (n,), how much each counts in comparison; equally by default.
        Logistic regression is calibrated on what it was fitted to. Without any instance every probability is 0.5.
        """
        from scipy.optimize import minimize

        if not len(features):
            zeros = (0.0,) * features.shape[1]
            return cls(zeros, (1.0,) * len(zeros), 2 * zeros, 0.0)
        scale = features.std(axis=0)
        start = cls(
            tuple(features.mean(axis=0).tolist()),
            tuple(np.where(scale > 1e-9, scale, 1.0).tolist()),
            (0.0,) * 2 * features.shape[1],
            0.0,
        )
        terms = start._terms(features)
        sign = np.where(right, 1.0, -1.0)
        counts = np.ones(len(right)) if weights is None else weights / weights.mean()

        def cost(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            margin = sign * (terms @ theta[:-1] + theta[-1])
            slope = -counts * sign * 0.5 * (1 - np.tanh(margin / 2))
            gradient = np.append(terms.T @ slope + RIDGE * theta[:-1], slope.sum())
            return float(counts @ np.logaddexp(0, -margin) + RIDGE / 2 * theta[:-1] @ theta[:-1]), gradient

        best = minimize(cost, np.zeros(terms.shape[1] + 1), jac=True, method="L-BFGS-B").x
        return cls(start.mean, start.scale, tuple(best[:-1].tolist()), float(best[-1]))

    def _terms(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        z = np.clip((features - np.array(self.mean)) / np.array(self.scale), -CLIP, CLIP)
        return np.concatenate([z, z**2], axis=-1)
