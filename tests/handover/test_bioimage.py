"""Packages of models, read by bioimage.io's own library without a network, and run by what they say of themselves."""

import socket
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from bioimageio.spec import InvalidDescr, ValidationContext, load_description
from PIL import Image as PillowImage

from fewcell import cli, errors
from fewcell.config import Part
from fewcell.engine import OpenVinoEngine
from fewcell.errors import MissingDependencyError, ModelError, WriteError
from fewcell.handover import package_model
from fewcell.representations import make_representation
from fewcell.segmenter import NetworkFacts, Segmenter, find_model, read_model, write_model


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("package")
    package_model("default", folder / "default.zip", authors=["A. Author", "B. Author"], licence="CC-BY-NC-4.0")
    with zipfile.ZipFile(folder / "default.zip") as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def validated(path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with ValidationContext(perform_io_checks=True):
        return load_description(path)


def test_it_is_valid_without_a_network(unpacked, monkeypatch) -> None:
    model = validated(unpacked.parent / "default.zip", monkeypatch)
    assert not isinstance(model, InvalidDescr), model.validation_summary.format()
    assert model.validation_summary.status in ("valid-format", "passed")
    assert [author.name for author in model.authors] == ["A. Author", "B. Author"]
    assert str(model.license) == "CC-BY-NC-4.0"
    assert model.weights.onnx.opset_version == 20
    assert model.weights.onnx.sha256 == read_model(find_model("default")).sha256["network.onnx"]


def test_a_damaged_package_is_not_valid(unpacked, tmp_path, monkeypatch) -> None:
    """The check finds it where tensors have not the shapes that the description says."""
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(broken, "w") as archive:
        for path in unpacked.iterdir():
            if path.name != "test_output.npy":
                archive.write(path, path.name)
        archive.writestr("test_output.npy", (unpacked / "test_input.npy").read_bytes())
    assert isinstance(validated(broken, monkeypatch), InvalidDescr)


def test_the_example_follows_from_the_description_alone(unpacked) -> None:
    said = yaml.safe_load((unpacked / "rdf.yaml").read_text(encoding="utf-8"))
    stretch, clip = (step["kwargs"] for step in said["inputs"][0]["preprocessing"])
    image = np.load(unpacked / "test_input.npy", allow_pickle=False)
    low = np.percentile(image, stretch["min_percentile"], axis=(2, 3), keepdims=True)
    high = np.percentile(image, stretch["max_percentile"], axis=(2, 3), keepdims=True)
    seen = np.clip((image - low) / (high - low + stretch["eps"]), clip["min"], clip["max"]).astype(np.float32)
    network = OpenVinoEngine(unpacked / said["weights"]["onnx"]["source"], precision="f32")
    expected = np.load(unpacked / "test_output.npy", allow_pickle=False)
    np.testing.assert_allclose(network(seen[0])[None], expected, atol=1e-4)
    rows, columns = said["outputs"][0]["axes"][2:]
    left = expected[:, :, rows["halo"] : -rows["halo"], columns["halo"] : -columns["halo"]]
    assert left.size > 0, "the halo leaves something of the smallest image"
    assert np.ptp(expected) > 0.5, "the example shows cells"


def test_what_the_halo_leaves_does_not_depend_on_what_lies_around(unpacked) -> None:
    said = yaml.safe_load((unpacked / "rdf.yaml").read_text(encoding="utf-8"))
    size, (rows, _) = said["inputs"][0]["axes"][2]["size"], said["outputs"][0]["axes"][2:]
    network = OpenVinoEngine(unpacked / "network.onnx", precision="f32")
    side, more, halo = size["min"], 2 * size["step"], rows["halo"]
    around = np.random.default_rng(0).random((3, side + 2 * more, side + 2 * more), dtype=np.float32)
    alone, within = network(around[:, more:-more, more:-more].copy()), network(around)
    cut = more // rows["scale"] + halo
    np.testing.assert_allclose(alone[:, halo:-halo, halo:-halo], within[:, cut:-cut, cut:-cut], atol=1e-4)
    assert not np.allclose(alone[:, :halo, :halo], within[:, cut - halo : cut, cut - halo : cut], atol=1e-4)


def test_the_unpacked_folder_is_the_model(unpacked) -> None:
    model = Segmenter.load(unpacked)
    assert model.facts == Segmenter.load().facts
    assert (unpacked / "NOTICE").read_bytes() == (find_model("default") / "NOTICE").read_bytes()


def test_the_words_name_sources_licences_and_how_to_validate(unpacked) -> None:
    words = (unpacked / "README.md").read_text(encoding="utf-8")
    for source, of in read_model(find_model("default")).trained_on.items():
        assert f"| {source} | {of.total} | {of.licence} |" in words
    assert "## Validation" in words
    cover = PillowImage.open(unpacked / "cover.png")
    assert cover.size[0] == 2 * cover.size[1]
    assert (unpacked / "cover.png").stat().st_size < 500_000


def test_without_a_licence_none_is_claimed(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("onnx")
    for folder in ("a", "b"):
        command = ["fewcell", "package", "default", "-o", str(tmp_path / folder / "mine.zip")]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 0
    assert (tmp_path / "a" / "mine.zip").read_bytes() == (tmp_path / "b" / "mine.zip").read_bytes()
    assert "mine.zip" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "a" / "mine.zip") as archive:
        assert "license" not in yaml.safe_load(archive.read("rdf.yaml"))


@pytest.mark.slow
def test_a_network_of_one_size_says_so(tmp_path, monkeypatch) -> None:
    """The challenge's baselines see windows of 256 px, no less and no more."""
    torch = pytest.importorskip("torch")
    from fewcell.networks import make_network
    from fewcell.training.export import export_network, round_weights

    torch.manual_seed(0)
    start, representation = find_model("default"), make_representation("boundary", {})
    network = make_network("unet", len(representation.channels))
    round_weights(network)
    onnx, weights = tmp_path / "network.onnx", tmp_path / "weights.safetensors"
    export_network(network, representation, onnx, weights)
    numbers = {"stride": 1, "multiple_px": 16, "reach_px": None, "window_px": 256}
    parts = {"network": NetworkFacts(name="unet", **numbers), "representation": Part(name="boundary")}
    facts = read_model(start).model_copy(update=parts)
    write_model(tmp_path / "windows", facts, onnx, start / "scale.onnx", weights)
    package_model(tmp_path / "windows", tmp_path / "U-Net, v1.2.zip")
    model = validated(tmp_path / "U-Net, v1.2.zip", monkeypatch)
    assert not isinstance(model, InvalidDescr), model.validation_summary.format()
    assert model.name == "fewcell U-Net- v1-2"
    assert [axis.size for axis in model.inputs[0].axes[2:]] == [256, 256]
    assert not hasattr(model.outputs[0].axes[2], "halo")


def test_what_cannot_be_packaged_says_why(tmp_path, monkeypatch) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        package_model("nothing", tmp_path / "x.zip")
    (tmp_path / "x.zip").touch()
    with pytest.raises(WriteError, match="exists already"):
        package_model("default", tmp_path / "x.zip")
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"\.\[train\]"):
        package_model("default", tmp_path / "y.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
