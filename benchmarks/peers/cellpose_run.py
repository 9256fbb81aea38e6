"""Train Cellpose from scratch for some minutes, and predict a test folder.

    OMP_NUM_THREADS=2 CELLPOSE/bin/python benchmarks/peers/cellpose_run.py ../shared/data/train ../shared/data/test \\
        runs/peers/cellpose --minutes 30 --estimate

CELLPOSE is an environment as README.md says. Labels go to OUT/given, for which the package is told the true diameter of
every image. With --estimate its size model is fitted to the trained network, and labels for which the package estimates
the diameters go to OUT/estimated as well. The package itself resamples, to cells of 30 px.
"""

import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from cellpose.dynamics import labels_to_flows
from cellpose.models import CellposeModel, SizeModel
from cellpose.train import train_seg, train_size
from common import THREADS, Sample, open_samples, parse, predict, split, trained_once

MOST_EPOCHS = 500  # what follows is what `cellpose --train` does unless told otherwise
TRAINING = {"SGD": True, "learning_rate": 0.2, "weight_decay": 1e-5, "batch_size": 8}
BATCH = 8
FEWEST_CELLS = 1  # not 5: whole modalities have one cell an image
TRIAL_STEPS, TRIAL_IMAGES = 8, 32
SIZE_IMAGES, SIZE_PX = 64, 224  # crops an epoch of fitting the size model, of which there are 10: more would take hours

Data = tuple[list[np.ndarray], list[np.ndarray]]


def new_model(seed: int, trained: Path | None = None) -> CellposeModel:
    torch.manual_seed(seed)
    return CellposeModel(gpu=False, pretrained_model=str(trained) if trained else False, nchan=3)


def load(samples: list[Sample]) -> Data:
    """Images, channels first, and labels with flows; for the package, what is not known is background."""
    pairs = [sample.load() for sample in samples]
    known = [np.maximum(labels, 0) for _, labels in pairs]
    return [pixels.transpose(2, 0, 1) for pixels, _ in pairs], labels_to_flows(known, device=torch.device("cpu"))


def train(data: Data, epochs: int, steps: int, out: Path, seed: int) -> tuple[Path, list[float]]:
    """Train a new network, `steps` an epoch; returns its file and when each step began, and the end."""
    model, times = new_model(seed), []
    model.net.register_forward_pre_hook(lambda *_: times.append(time.perf_counter()))
    file, *_ = train_seg(
        model.net,
        *data,
        **TRAINING,
        n_epochs=epochs,
        nimg_per_epoch=BATCH * steps,
        min_train_masks=FEWEST_CELLS,
        save_path=out,
        model_name="cellpose",
    )
    return Path(file), [*times, time.perf_counter()]


def train_for(minutes: float, data: Data, out: Path, seed: int) -> tuple[Path, dict[str, object]]:
    """Train with the package's schedule of learning rates, in epochs so short that it ends in time.

    How long a step takes is tried first, with a few images and a network that is thrown away.
    """
    some = np.random.default_rng(seed).permutation(len(data[0]))[:TRIAL_IMAGES]
    _, times = train(([data[0][i] for i in some], [data[1][i] for i in some]), 1, TRIAL_STEPS, out, seed)
    total = max(1, int(60 * minutes / np.mean(np.diff(times[2:-1]))))
    steps = -(-total // MOST_EPOCHS)
    file, times = train(data, total // steps, steps, out, seed)
    return file, {"train_s": times[-1] - times[0], "steps": len(times) - 1, "epochs": total // steps}


def fit_size(model: CellposeModel, file: Path, data: Data) -> None:
    count = min(SIZE_IMAGES, len(data[0]))
    how = {"nimg_per_epoch": count, "bsize": SIZE_PX, "batch_size": BATCH, "min_train_masks": FEWEST_CELLS}
    train_size(model.net, file, *data, **how)


def main() -> None:
    arguments = parse(__doc__, lambda p: p.add_argument("--estimate", action="store_true", help="see above"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")  # the package says how it goes
    torch.set_num_threads(THREADS)
    learn, held = split(open_samples(arguments.data, arguments.limit), arguments.seed)
    out = arguments.out

    def run() -> dict[str, object]:
        data = load(learn)
        file, done = train_for(arguments.minutes, data, out, arguments.seed)
        start = time.perf_counter()
        if arguments.estimate:
            fit_size(new_model(arguments.seed, file), file, data)
        return {
            "method": "Cellpose",
            "version": version("cellpose"),
            "minutes": arguments.minutes,
            "seed": arguments.seed,
            "n_learn": len(learn),
            "n_held_out": len(held),
            "after_s": time.perf_counter() - start,
        } | done

    facts = trained_once(out, run)
    file = out / "models" / "cellpose"
    model = new_model(arguments.seed, file)

    def given(pixels: np.ndarray, true_px: float | None) -> np.ndarray:
        return model.eval(pixels, channel_axis=2, diameter=true_px)[0]

    ways: dict[str, Callable[[np.ndarray, float | None], np.ndarray]] = {"given": given}
    if arguments.estimate:
        sizes = SizeModel(model, pretrained_size=f"{file}_size.npy")
        ways["estimated"] = lambda pixels, _: given(pixels, float(sizes.eval(pixels, channel_axis=2)[0]))
    for name, segment in ways.items():
        predict(open_samples(arguments.test, arguments.limit), segment, out / name, facts | {"diameter": name})


if __name__ == "__main__":
    main()
