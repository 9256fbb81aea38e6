"""The model folder: model.json, network.onnx, scale.onnx, weights.safetensors, perhaps an int8 network. Plain data."""

import hashlib
import json
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from fewcell.config import Part, Strict
from fewcell.errors import ModelError, WriteError, how_to_install, nearest
from fewcell.images import put_in_place

if TYPE_CHECKING:
    from fewcell.networks import Network

__all__ = [
    "FACTS_FILE",
    "INT8_FILE",
    "NETWORK_FILE",
    "SCALE_FILE",
    "SCHEMA_VERSION",
    "WEIGHTS_FILE",
    "Int8Facts",
    "ModelFacts",
    "NetworkFacts",
    "ScorerFacts",
    "SourceFacts",
    "find_model",
    "hashes_of",
    "network_of",
    "read_model",
    "sha256",
    "write_model",
]

SCHEMA_VERSION = 3
NETWORK_FILE, SCALE_FILE = "network.onnx", "scale.onnx"
WEIGHTS_FILE, FACTS_FILE = "weights.safetensors", "model.json"
INT8_FILE, INT8_NUMBERS_FILE = "network_int8.xml", "network_int8.bin"  # OpenVINO's own format, in two files
_KNOWN_FILES = (NETWORK_FILE, SCALE_FILE, WEIGHTS_FILE, INT8_FILE, INT8_NUMBERS_FILE)


class NetworkFacts(Part):
    """The network: its name and settings, and what tiling must know of it (see networks.Network)."""

    stride: Annotated[int, Field(ge=1)]
    multiple_px: Annotated[int, Field(ge=1)]
    reach_px: Annotated[int, Field(ge=0)] | None
    window_px: Annotated[int, Field(ge=1)] | None

    @model_validator(mode="after")
    def _windows_lie_on_the_grid(self) -> "NetworkFacts":
        if self.window_px is not None and self.window_px % self.multiple_px:
            raise ValueError(f"window_px {self.window_px} is not a multiple of multiple_px {self.multiple_px}")
        return self


class ScorerFacts(Strict):
    """The arrays of a scoring.Scorer."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    units: tuple[tuple[float, ...], ...] = ()

    @model_validator(mode="after")
    def _lengths(self) -> "ScorerFacts":
        n = len(self.mean)
        if len(self.scale) != n or len(self.weights) != 2 * n + len(self.units):
            got = f"{n}, {len(self.scale)} and {len(self.weights)} with {len(self.units)} units"
            raise ValueError(f"mean, scale and half of the weights (without units') must be as many, got {got}")
        if any(len(unit) != n + 1 for unit in self.units):
            raise ValueError(f"each unit has a weight for each of {n} features, and a bias")
        return self


class SourceFacts(Strict):
    """How many images of one source the model has learned from, and their licence.

    images: with labels. unlabelled: without, points and boxes included.
    """

    images: int
    licence: str
    unlabelled: int = 0

    @property
    def total(self) -> int:
        """All images of the source that were learned from."""
        return self.images + self.unlabelled


class Int8Facts(Strict):
    """How the int8 network compares with the network, in the precision that was the fastest: F1 on held-out images."""

    f1_50: float
    f1_50_before: float
    precision_before: Literal["bf16", "f32"]
    times_faster: float


class ModelFacts(Strict):
    """All that a model folder says in model.json.

    min_score: instances below it are dropped, unless the user says otherwise. diameter_bias: by what factor diameters
    that were measured were too high on images held out from training. min_surest: an image in which no cell is as sure
    has none, unless the user says how wide they are. held_out: scores on these images. int8: what was
    found of an int8 network, if one was made; its files are in the folder where it is worth it. sha256: of the other
    files of the folder.
    """

    schema_version: Literal[3] = SCHEMA_VERSION
    fewcell_version: str
    network: NetworkFacts
    representation: Part
    scorer: ScorerFacts
    min_score: Annotated[float, Field(ge=0, le=1)]
    canonical_diameter_px: Annotated[float, Field(gt=0)]
    diameter_bias: Annotated[float, Field(gt=0)]
    min_surest: Annotated[float, Field(ge=0, le=1)]
    trained_on: dict[str, SourceFacts]
    held_out: dict[str, float]
    int8: Int8Facts | None = None
    recipe: dict[str, Any]
    sha256: dict[str, str]


def hashes_of(facts: ModelFacts) -> dict[str, str]:
    """What decides which cells a model finds: the hash of each network, and of all else that its folder says."""
    said = hashlib.sha256(facts.model_dump_json().encode()).hexdigest()
    return {FACTS_FILE: said, **{name: facts.sha256[name] for name in (NETWORK_FILE, SCALE_FILE)}}


def find_model(name: str | Path) -> Path:
    """The folder of a model: the name of one inside the package (such as 'default'), or a path.

    A name in the package wins, whatever lies in the current folder; write ./default for a folder there.

    Raises ModelError if there is neither.
    """
    packaged = Path(str(files("fewcell"))) / "models"
    known = [p.name for p in packaged.iterdir() if p.is_dir()] if packaged.is_dir() else []
    if str(name) in known:
        return packaged / name
    folder = Path(name)
    if folder.is_dir():
        return folder
    raise ModelError(f"There is no model folder {str(name)!r}; {nearest(str(name), known)}")


def read_model(folder: Path) -> ModelFacts:
    """Read and check a model folder: its facts, and that its files are whole.

    Raises ModelError if a file is missing or damaged, or if a newer fewcell wrote the folder.
    """
    path = folder / FACTS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{folder} is no model folder: it has no {FACTS_FILE} that can be read.") from None
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}. Copy or train the model again.") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ModelError(
            f"{folder} was written by a newer fewcell (schema {version}, this one reads {SCHEMA_VERSION}). "
            f"Get the newer one. {how_to_install()}"
        )
    if isinstance(version, int) and version < SCHEMA_VERSION:
        raise ModelError(
            f"{folder} was written by an older fewcell (schema {version}, this one reads {SCHEMA_VERSION}). "
            "Train the model again."
        )
    try:
        facts = ModelFacts.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or FACTS_FILE
        raise ModelError(f"{path} is not a model description: {where}: {first['msg']}.") from None
    for name in (NETWORK_FILE, SCALE_FILE):
        if name not in facts.sha256:
            raise ModelError(f"{path} gives no checksum of {name}. Copy or train the model again.")
    for name, expected in facts.sha256.items():
        if name not in _KNOWN_FILES:
            raise ModelError(f"{path} names an unknown file {name!r}.")
        if not (folder / name).is_file():
            raise ModelError(f"{folder} lacks {name}. Copy or train the model again.")
        if sha256(folder / name) != expected:
            raise ModelError(f"{folder / name} is damaged: its checksum is wrong. Copy or train the model again.")
    return facts


def network_of(folder: Path, n_channels: int) -> "Network":
    """The network of a model folder as torch knows it, with its weights. n_channels: of its representation.

    Raises ModelError as `read_model`, MissingDependencyError without torch or safetensors.
    """
    from fewcell.networks import load_network

    part = read_model(folder).network
    return load_network(part.name, n_channels, part.settings, folder / WEIGHTS_FILE)


def sha256(path: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_model(
    folder: Path, facts: ModelFacts, network: Path, scale: Path, weights: Path, *, int8: Path | None = None
) -> None:
    """Write a model folder, whole or not at all; one of the same name is replaced.

    network, scale, weights: the files to copy into it. int8: the .xml of an int8 network, beside which its .bin is.
    Their checksums are put into the facts.

    Raises WriteError if there is something else of that name, or if it cannot be written; an old one is still there.
    """
    if folder.exists() and not (folder / FACTS_FILE).is_file():
        raise WriteError(f"{folder} exists and is no model folder, so it is not replaced. Choose another name.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary) / "model"
            made.mkdir()
            sources = {NETWORK_FILE: network, SCALE_FILE: scale, WEIGHTS_FILE: weights}
            if int8 is not None:
                sources |= {INT8_FILE: int8, INT8_NUMBERS_FILE: int8.with_suffix(".bin")}
            for name, file in sources.items():
                shutil.copyfile(file, made / name)
            checksums = {name: sha256(made / name) for name in sources}
            facts = facts.model_copy(update={"sha256": checksums})
            text = json.dumps(facts.model_dump(mode="json"), indent=1) + "\n"
            (made / FACTS_FILE).write_text(text, encoding="utf-8")
            put_in_place({folder: made}, Path(temporary) / "old")
    except OSError as error:
        raise WriteError(f"The model folder {folder} cannot be written: {error.strerror or error}.") from None
