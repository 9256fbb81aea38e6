"""A model as a package of bioimage.io: its network in a form that other programs can run, with an example and words.

Other programs run the network alone. Reading cells from what it predicts is fewcell's part: the package holds the whole
model folder, so where it is unpacked, `fewcell segment --model` takes it as it is.

Source: the model description 0.5 of bioimage.io (https://bioimage-io.github.io/spec-bioimage-io/).
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fewcell import __version__
from fewcell.engine import OpenVinoEngine
from fewcell.errors import how_to_install, require
from fewcell.images import draw_overlay, resize_image, whole_file
from fewcell.images.normalise import HIGH_PERCENTILE, HIGHEST_PEAK, LOW_PERCENTILE, LOWEST
from fewcell.segmenter import FACTS_FILE, NETWORK_FILE, ModelFacts, NetworkFacts, Segmenter
from fewcell.types import FloatArray

__all__ = ["package_model"]

FORMAT_VERSION = "0.5.4"
CHALLENGE = (
    "Made for the challenge of Ma et al., The multimodality cell segmentation challenge: toward universal solutions. "
    "Nature Methods 21 (2024)"
)
NOTICE_FILE = "NOTICE"
EXAMPLE_DIAMETER_PX = 14.0  # of the nuclei in scikit-image's immunohistochemistry
EPSILON = 1e-6  # what the distance of percentiles is widened by


def package_model(
    model: str | Path, path: Path, *, authors: Sequence[str] = (), licence: str | None = None, overwrite: bool = False
) -> None:
    """Write a model as a zip file that bioimage.io and the programs that read its models take.

    model: a model folder, or the name of one inside the package. path: its stem is the name of the model. authors:
    names, by default the fewcell team. licence: of the weights, by its SPDX name; without one none is claimed, and what
    the data's sources say is in README.md.

    Raises MissingDependencyError without the libraries for training, which write the description; ModelError for a
    model that is missing or damaged, WriteError if the file exists and may not be overwritten.
    """
    require("train", "onnx", "yaml")
    import yaml

    segmenter = Segmenter.load(model)
    folder, facts = segmenter.folder, segmenter.facts
    pixels = _example(facts)
    engine = OpenVinoEngine(folder / NETWORK_FILE, precision="f32")  # what every other program computes in
    kept = [FACTS_FILE, *(name for name in facts.sha256 if name != NETWORK_FILE)]
    kept += [NOTICE_FILE] if (folder / NOTICE_FILE).is_file() else []
    name = re.sub(r"[^\w() -]", "-", path.stem)  # what a name may be made of
    described = {
        **_description(name, facts, [*authors] or ["The fewcell team"], licence),
        "inputs": [_input(facts)],
        "outputs": [_output(segmenter)],
        "weights": {"onnx": {**_file(NETWORK_FILE, facts.sha256[NETWORK_FILE]), "opset_version": _opset(folder)}},
        "attachments": [_file(one) for one in kept],
    }
    made = {
        "rdf.yaml": yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode(),
        "README.md": _words(name, facts).encode(),
        "cover.png": _cover(segmenter, pixels),
        "test_input.npy": _npy(pixels[None]),
        "test_output.npy": _npy(engine(_stretch(pixels))[None]),
    }
    with whole_file(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file_name in (*made, NETWORK_FILE, *kept):
            entry = zipfile.ZipInfo(file_name)  # of 1980: the same model gives the same bytes
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, made.get(file_name) or (folder / file_name).read_bytes())


def _description(name: str, facts: ModelFacts, authors: Sequence[str], licence: str | None) -> dict[str, Any]:
    sources = ", ".join(facts.trained_on)
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": f"fewcell {name}",
        "description": f"Finds cells in microscopy images of any modality: {facts.network.name} network, "
        f"{facts.representation.name} representation. Learned from: {sources}."[:1024],
        "authors": [{"name": author} for author in authors],
        "cite": [{"text": CHALLENGE, "doi": "10.1038/s41592-024-02233-6"}],
        **({"license": licence} if licence else {}),
        "documentation": _file("README.md"),
        "covers": [_file("cover.png")],
        "tags": ["cells", "nuclei", "instance-segmentation", "2d", "microscopy", "fewcell"],
        "version": facts.fewcell_version,
        "config": {"fewcell": {"version": __version__, "canonical_diameter_px": facts.canonical_diameter_px}},
    }


def _file(source: str, sha256: str | None = None) -> dict[str, Any]:
    return {"source": source, **({"sha256": sha256} if sha256 else {})}


def _least_px(network: NetworkFacts) -> int:
    """The smallest side of an image of which the network's reach leaves something."""
    if network.window_px is not None:
        return network.window_px
    seen_px = 2 * (network.reach_px or 0) + network.stride
    return -(-seen_px // network.multiple_px) * network.multiple_px


def _input(facts: ModelFacts) -> dict[str, Any]:
    """Three channels of any range, stretched as nearly as the format can say to what fewcell makes of an image."""
    network = facts.network
    is_fixed = network.window_px is not None
    sizes = (network.window_px if is_fixed else {"min": _least_px(network), "step": network.multiple_px} for _ in "yx")
    return {
        "id": "image",
        "description": f"One channel three times, or three channels. Cells {facts.canonical_diameter_px:g} px wide.",
        "axes": [
            {"type": "batch", "size": 1},
            {"type": "channel", "channel_names": ["first", "second", "third"]},
            *(
                {"type": "space", "id": axis, "size": size, "concatenable": not is_fixed}
                for axis, size in zip("yx", sizes, strict=True)
            ),
        ],
        "data": {"type": "float32"},
        "test_tensor": _file("test_input.npy"),
        "preprocessing": [
            {
                "id": "scale_range",
                "kwargs": {
                    "axes": ["y", "x"],
                    "min_percentile": LOW_PERCENTILE,
                    "max_percentile": HIGH_PERCENTILE,
                    "eps": EPSILON,
                },
            },
            {"id": "clip", "kwargs": {"min": LOWEST, "max": HIGHEST_PEAK}},
        ],
    }


def _output(segmenter: Segmenter) -> dict[str, Any]:
    network, channels = segmenter.facts.network, segmenter.representation.channels
    halo_px = -(-(network.reach_px or 0) // network.stride) if network.window_px is None else 0
    axis: Mapping[str, Any] = {"type": "space", "scale": network.stride, **({"halo": halo_px} if halo_px else {})}
    return {
        "id": "prediction",
        "description": f"What fewcell's representation {segmenter.facts.representation.name} reads cells from.",
        "axes": [
            {"type": "batch", "size": 1},
            {"type": "channel", "channel_names": [channel.name for channel in channels]},
            *({**axis, "id": name, "size": {"tensor_id": "image", "axis_id": name}} for name in ("y", "x")),
        ],
        "data": {"type": "float32"},
        "test_tensor": _file("test_output.npy"),
    }


def _opset(folder: Path) -> int:
    import onnx

    graph = onnx.load(str(folder / NETWORK_FILE))
    return next(used.version for used in graph.opset_import if used.domain in ("", "ai.onnx"))


def _example(facts: ModelFacts) -> FloatArray:
    """A part of an immunostained section that comes with scikit-image, as large and at the scale that is asked for."""
    from skimage import data

    side = _least_px(facts.network)
    part = round(side * EXAMPLE_DIAMETER_PX / facts.canonical_diameter_px)
    section = np.moveaxis(np.asarray(data.immunohistochemistry(), dtype=np.float32), -1, 0)
    return resize_image(np.ascontiguousarray(section[:, -part:, -part:]), (side, side))


def _stretch(pixels: FloatArray) -> FloatArray:
    """What `preprocessing` says, so that the example is that of programs that know nothing but the description."""
    low, high = np.percentile(pixels, (LOW_PERCENTILE, HIGH_PERCENTILE), axis=(1, 2), keepdims=True)
    return np.clip((pixels - low) / (high - low + EPSILON), LOWEST, HIGHEST_PEAK).astype(np.float32)


def _cover(segmenter: Segmenter, pixels: FloatArray) -> bytes:
    """The example, and beside it what fewcell finds in it with this model."""
    from PIL import Image as PillowImage

    found = segmenter.segment(pixels, diameter_px=segmenter.facts.canonical_diameter_px)
    shown, nothing = np.clip(pixels / 255, 0, 1), np.zeros_like(found.labels)
    both = np.concatenate([draw_overlay(shown, nothing), draw_overlay(shown, found.labels)], axis=1)
    file = BytesIO()
    PillowImage.fromarray(both).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _npy(array: FloatArray) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _words(name: str, facts: ModelFacts) -> str:
    sources = "\n".join(f"| {source} | {of.total} | {of.licence} |" for source, of in facts.trained_on.items())
    scores = "\n".join(f"| {score} | {value:.4g} |" for score, value in facts.held_out.items())
    return f"""# fewcell {name}

Finds cells in microscopy images of any modality. The network (`{facts.network.name}`) predicts what the representation
`{facts.representation.name}` reads cells from; reading them, the scale of images and scores are fewcell's part.
{how_to_install()}

Then:

    fewcell segment IMAGES -o OUT --model THIS_FOLDER

Other programs can run the network alone. It expects cells {facts.canonical_diameter_px:g} px wide: enlarge or shrink
images to that. Its prediction has a pixel for each {facts.network.stride} x {facts.network.stride} pixels of the image.

## Learned from

| source | images | licence |
|---|---:|---|
{sources}

Licences are as the sources state them; some may exclude commercial use.

## Validation

On images that were held out from training:

| score | |
|---|---:|
{scores}

To validate it on images of your own, label some as `labels/<name>_label.tiff` beside `images/<name>.png`, and score
what it finds by the rule of the NeurIPS 2022 Cell Segmentation Challenge (F1 at an IoU of 0.5):

    fewcell segment mine/images -o found --model THIS_FOLDER
    fewcell evaluate mine found
"""
