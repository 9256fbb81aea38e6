"""Train StarDist from scratch for some minutes, tune its thresholds on held-out images, and predict a test folder.

    OMP_NUM_THREADS=2 STARDIST/bin/python benchmarks/peers/stardist_run.py ../shared/data/train ../shared/data/test \\
        runs/peers/stardist --minutes 30

STARDIST is an environment as README.md says. Labels go to OUT/given: every image, of training and of test, is brought
to cells of 24 px by its true diameter. With --diameter none images are left as they are, and labels go to OUT/none.
"""

import time

import numpy as np
import stardist
import tensorflow as tf
from common import THREADS, Sample, diameter_px, open_samples, parse, predict, resample, split, trained_once
from csbdeep.utils import normalize
from stardist.models import Config2D, StarDist2D

CELL_PX = 24.0
PATCH_PX = 256


class Until(tf.keras.callbacks.Callback):
    """Ends the training when its time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def on_train_begin(self, logs=None) -> None:
        self.start, self.steps, self.took = time.perf_counter(), 0, 0.0

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.steps += 1
        if time.perf_counter() - self.start > self.seconds:
            self.model.stop_training = True

    def on_train_end(self, logs=None) -> None:
        self.took = time.perf_counter() - self.start


def prepare(pixels: np.ndarray, true_px: float | None) -> np.ndarray:
    """Stretch the contrast of each channel as the package's examples do, and resample if a diameter is given."""
    factor = CELL_PX / true_px if true_px else 1.0
    shape = (round(pixels.shape[0] * factor), round(pixels.shape[1] * factor))
    return normalize(resample(pixels, shape), 1, 99.8, axis=(0, 1))


def load(samples: list[Sample], given: bool, least_px: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and labels, no side of them shorter than `least_px`: mirrored; what is beyond an image is not known."""
    images, truths = [], []
    for sample in samples:
        pixels, labels = sample.load()
        image = prepare(pixels, diameter_px(labels) if given else None)
        labels = resample(labels, image.shape[:2], labels=True)
        beyond = [(0, max(0, least_px - side)) for side in labels.shape]
        images.append(np.pad(image, [*beyond, (0, 0)], mode="symmetric"))
        truths.append(np.pad(labels, beyond, constant_values=-1))
    return images, truths


def augment(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns and flips, another brightness and contrast, and noise: of the strength of the package's examples."""
    quarters, flip = np.random.randint(4), np.random.randint(2)  # noqa: NPY002
    image, labels = (np.rot90(part[:, ::-1] if flip else part, quarters) for part in (image, labels))
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)  # noqa: NPY002
    return image + 0.02 * np.random.uniform() * np.random.normal(size=image.shape), labels  # noqa: NPY002


def train(model: StarDist2D, learn: list[Sample], held: list[Sample], given: bool, minutes: float, seed: int) -> dict:
    until = Until(60 * minutes)
    model.prepare_for_training()
    model.callbacks.append(until)
    data, validation = (load(part, given, PATCH_PX) for part in (learn, held))
    model.train(*data, validation_data=validation, augmenter=augment, seed=seed)
    start = time.perf_counter()
    images, truths = load(held, given, 1)  # mirrored cells would be false ones
    model.optimize_thresholds(images, [np.maximum(labels, 0) for labels in truths])
    return {"train_s": until.took, "steps": until.steps, "after_s": time.perf_counter() - start}


def main() -> None:
    arguments = parse(__doc__, lambda p: p.add_argument("--diameter", choices=["given", "none"], default="given"))
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.keras.utils.set_random_seed(arguments.seed)
    given, out = arguments.diameter == "given", arguments.out / arguments.diameter
    learn, held = split(open_samples(arguments.data, arguments.limit), arguments.seed)

    def run() -> dict[str, object]:
        config = Config2D(n_channel_in=3, grid=(2, 2), train_patch_size=(PATCH_PX, PATCH_PX), train_tensorboard=False)
        model = StarDist2D(config, name="model", basedir=str(out))
        done = train(model, learn, held, given, arguments.minutes, arguments.seed)
        return {
            "method": "StarDist",
            "version": stardist.__version__,
            "minutes": arguments.minutes,
            "seed": arguments.seed,
            "n_learn": len(learn),
            "n_held_out": len(held),
        } | done

    facts = trained_once(out, run)
    model = StarDist2D(None, name="model", basedir=str(out))  # with the best weights and the thresholds

    def segment(pixels: np.ndarray, true_px: float | None) -> np.ndarray:
        image = prepare(pixels, true_px if given else None)
        labels, _ = model.predict_instances(image, n_tiles=model._guess_n_tiles(image), show_tile_progress=False)
        return resample(labels, pixels.shape[:2], labels=True)

    predict(open_samples(arguments.test, arguments.limit), segment, out, facts | {"diameter": arguments.diameter})


if __name__ == "__main__":
    main()
