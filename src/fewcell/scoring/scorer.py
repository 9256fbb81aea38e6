"""How likely an instance is right: features that any representation offers, and a small calibrated model of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ConfigError
from fewcell.types import FloatArray, Instances

__all__ = ["Scorer", "clipped_logit", "ellipse_axes", "instance_features", "n_features"]

CLIP = 4.0  # standard deviations beyond which a feature tells no more
SURE = 1e-3  # what is surer than this tells no more
RIDGE = 1.0  # strength of the penalty on weights, in units of one instance
UNITS_RIDGE = 10.0  # the same with hidden units, which would learn by heart
ROWS_AT_ONCE = 20_000
MOST_STEPS = 200  # of the minimisation of a fit; a convex one ends earlier
STEPS_WITH_UNITS = 60  # more take time, and bring nothing on images that are not fitted to


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
    from fewcell.scoring.kernels import MOMENTS, add_pixels

    count, channels = int(found.labels.max(initial=0)), len(prediction)
    sums, inside = np.zeros((count + 1, len(MOMENTS))), np.zeros((count + 1, channels, 2))
    outside, outside_px = np.zeros((count + 1, channels)), np.zeros(count + 1)
    add_pixels(np.ascontiguousarray(found.labels), np.ascontiguousarray(prediction), sums, inside, outside, outside_px)
    area, y, x, yy, xx, yx, rim_px, frame_px = sums[1:].T
    some, some_rim = np.maximum(area, 1), np.maximum(rim_px, 1)
    columns = []
    for channel in range(channels):
        within, on_rim = inside[1:, channel].T
        columns += [within / some, on_rim / some_rim, outside[1:, channel] / np.maximum(outside_px[1:], 1)]
    long, short = ellipse_axes(some, y, x, yy, xx, yx)
    columns += [np.log(some), rim_px / np.sqrt(some), np.log(long / short) / 2, frame_px / some_rim]
    columns += [clipped_logit(found.scores)]
    return np.stack(columns, axis=1)


def clipped_logit(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logarithm of how much more likely yes is than no; what is surer than SURE counts as that."""
    clipped = np.clip(probability.astype(np.float64), SURE, 1 - SURE)
    return np.log(clipped / (1 - clipped))


def ellipse_axes(area, y, x, yy, xx, yx) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances in px² along the long and the short axis of the ellipse as which a cell counts, each of any shape.

    area: at least 1. The others are sums over the cell's pixels of their coordinates, squares and products; a pixel is
    a square, which itself has a variance.
    """
    cy, cx = y / area, x / area
    syy, sxx, sxy = yy / area - cy**2 + 1 / 12, xx / area - cx**2 + 1 / 12, yx / area - cy * cx
    spread = np.sqrt(np.maximum((syy - sxx) ** 2 / 4 + sxy**2, 0))
    return (syy + sxx) / 2 + spread, np.maximum((syy + sxx) / 2 - spread, 1 / 12)


@dataclass(frozen=True)
class Scorer:
    """A logistic model of standardised features, their squares, and hidden units; plain numbers, kept in model files.

    mean, scale: one per feature. weights: one per feature, one per squared feature, one per hidden unit. bias: one
    number. units: of each hidden unit (a tanh of standardised features) a weight per feature and a bias; may be none.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    units: tuple[tuple[float, ...], ...] = ()

    @property
    def n_features(self) -> int:
        """How many features it takes."""
        return len(self.mean)

    @property
    def numbers(self) -> tuple[float, ...]:
        """All of it in one row, the number of features first; `from_numbers` is the way back."""
        units = [number for unit in self.units for number in unit]
        return (float(self.n_features), *self.mean, *self.scale, *self.weights, self.bias, *units)

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> Self:
        """The scorer of which these are the `numbers`. Raises ConfigError if they are none."""
        first = numbers[0] if numbers else 0
        n = int(first) if np.isfinite(first) else 0
        n_units, rest = divmod(len(numbers) - 2 - 4 * n, n + 2) if n > 0 else (0, 0)
        if n < 1 or n != first or n_units < 0 or rest:
            raise ConfigError(f"These {len(numbers)} numbers are no scorer of {n} features. Train the model again.")
        lengths = np.cumsum([1, n, n, 2 * n + n_units, 1])
        _, mean, scale, weights, bias, units = (tuple(part.tolist()) for part in np.split(np.array(numbers), lengths))
        return cls(mean, scale, weights, bias[0], tuple(units[i : i + n + 1] for i in range(0, len(units), n + 1)))

    def __call__(self, features: NDArray[np.floating]) -> FloatArray:
        """The probability that each instance is right: (..., feature) -> (...) float32."""
        n, rows = self.n_features, features.reshape(-1, features.shape[-1])
        weights, units = np.array(self.weights), np.array(self.units).reshape(-1, n + 1)
        probability = np.empty(len(rows), dtype=np.float32)
        for first in range(0, len(rows), ROWS_AT_ONCE):  # what is between takes ten times the memory of the features
            part = slice(first, first + ROWS_AT_ONCE)
            z = self._standardised(rows[part])
            logit = z @ weights[:n] + z**2 @ weights[n : 2 * n] + np.tanh(_affine(z, units)) @ weights[2 * n :]
            probability[part] = 0.5 * (1 + np.tanh((logit + self.bias) / 2))
        return probability.reshape(features.shape[:-1])

    @classmethod
    def fit(
        cls,
        features: NDArray[np.floating],
        right: NDArray[np.bool_] | NDArray[np.floating],
        weights: NDArray[np.floating] | None = None,
        *,
        n_units: int = 0,
    ) -> Self:
        """Fit to instances of which one knows whether, or how far, they are right.

        features: (n, feature). right: (n,), true or false (IoU >= 0.5 with a true cell), or from 0 to 1.
        weights: (n,), how much each counts in comparison; equally by default.
        n_units: of hidden units; they need thousands of instances. Logistic regression is calibrated on what it was
        fitted to. Without any instance every probability is 0.5. The same instances give the same scorer.
        """
        n = features.shape[1]
        if not len(features):
            return cls((0.0,) * n, (1.0,) * n, (0.0,) * 2 * n, 0.0)
        scale = features.std(axis=0)
        mean, scale = features.mean(axis=0).tolist(), np.where(scale > 1e-9, scale, 1.0).tolist()
        start = cls(tuple(mean), tuple(scale), (0.0,) * 2 * n, 0.0)
        z = start._standardised(features)
        right = right.astype(np.float64)
        counts = np.ones(len(right)) if weights is None else weights / weights.mean()
        linear, units = _minimise(z, right, counts, np.zeros(2 * n + 1), np.zeros((0, n + 1)), RIDGE, MOST_STEPS)
        if n_units:  # begin where the model without units ends
            rng = np.random.default_rng(0)
            begin = np.insert(linear, 2 * n, rng.normal(0, 0.1, n_units))
            units = rng.normal(0, 1 / np.sqrt(n), (n_units, n + 1))
            linear, units = _minimise(z, right, counts, begin, units, UNITS_RIDGE, STEPS_WITH_UNITS)
        return cls(
            start.mean,
            start.scale,
            tuple(linear[:-1].tolist()),
            float(linear[-1]),
            tuple(tuple(unit) for unit in units.tolist()),
        )

    def _standardised(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.clip((features - np.array(self.mean)) / np.array(self.scale), -CLIP, CLIP)


def _affine(z: NDArray[np.float64], units: NDArray[np.float64]) -> NDArray[np.float64]:
    return z @ units[:, :-1].T + units[:, -1]


def _minimise(
    z: NDArray[np.float64],
    right: NDArray[np.float64],
    counts: NDArray[np.float64],
    linear: NDArray[np.float64],
    units: NDArray[np.float64],
    ridge: float,
    steps: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weights (the bias last) and hidden units of least cross entropy, with a penalty on all but biases."""
    from scipy.optimize import minimize

    n, n_linear, shape = z.shape[1], len(linear), units.shape
    fixed = np.concatenate([z, z**2], axis=1)
    penalised = np.concatenate([np.arange(n_linear) < n_linear - 1, np.tile(np.arange(n + 1) < n, len(units))])

    def cost(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, its_units = theta[: n_linear - 1], theta[n_linear:].reshape(shape)
        hidden = np.tanh(_affine(z, its_units))
        logit = fixed @ weights[: 2 * n] + hidden @ weights[2 * n :] + theta[n_linear - 1]
        slope = counts * (0.5 * (1 + np.tanh(logit / 2)) - right)
        back = np.outer(slope, weights[2 * n :]) * (1 - hidden**2)
        of_units = np.concatenate([back.T @ z, back.sum(axis=0)[:, None]], axis=1)
        gradient = np.concatenate([fixed.T @ slope, hidden.T @ slope, [slope.sum()], of_units.ravel()])
        shrunk = ridge * penalised * theta
        return float(counts @ (np.logaddexp(0, logit) - right * logit) + shrunk @ theta / 2), gradient + shrunk

    start = np.concatenate([linear, units.ravel()])
    best = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    return best[:n_linear], best[n_linear:].reshape(shape)
