"""What is exported is what was trained: in torch and OpenVINO, from either file of the model folder."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fewcell.engine import OpenVinoEngine
from fewcell.errors import ModelError
from fewcell.networks import Predictor, load_network, make_network
from fewcell.representations import make_representation
from fewcell.training import export
from fewcell.training.export import export_network, parity, round_weights

SETTINGS = {"widths": [8, 12], "blocks": 1}
REPRESENTATION = make_representation("boundary")


def make_predictor(seed=0):
    """A network whose norms have seen data; its weights are rounded."""
    torch.manual_seed(seed)
    network = make_network("resunet", len(REPRESENTATION.channels), SETTINGS)
    for _ in range(3):
        network(torch.randn(4, 3, 32, 32) * 2 + 1)
    round_weights(network)
    return Predictor(network, REPRESENTATION.activate).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    predictor = make_predictor()
    export_network(predictor.network, REPRESENTATION, folder / "network.onnx", folder / "weights.safetensors")
    return predictor, folder


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (4, 60), (52, 16), (96, 96), (260, 132)])
def test_openvino_agrees_with_torch_at_any_size(exported, shape):
    predictor, folder = exported
    image = np.random.default_rng(sum(shape)).uniform(-0.5, 4, (3, *shape)).astype(np.float32)
    with torch.inference_mode():
        expected = predictor(torch.from_numpy(image)[None])[0].numpy()
    found = OpenVinoEngine(folder / "network.onnx", threads=1, precision="f32")(image)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (3, shape[0] // 2, shape[1] // 2)
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_weights_file_gives_the_network_back(exported):
    predictor, folder = exported
    network = load_network("resunet", 3, SETTINGS, folder / "weights.safetensors")
    expected = predictor.network.state_dict()
    assert network.state_dict().keys() == expected.keys()
    assert [k for k, v in network.state_dict().items() if not torch.equal(v, expected[k])] == []
    assert {v.dtype for v in network.parameters()} == {torch.float32}
    image = torch.rand(1, 3, 40, 24)
    with torch.inference_mode():
        assert torch.equal(network.eval()(image), predictor.network(image))


def test_kernels_are_kept_in_half_precision_and_norms_in_full(exported):
    with safe_open(exported[1] / "weights.safetensors", framework="pt") as file:
        dtypes = {key: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    assert dtypes["head.weight"] == dtypes["stem.0.weight"] == torch.float16
    assert dtypes["stem.1.weight"] == dtypes["stem.1.running_var"] == torch.float32


@pytest.mark.parametrize(("name", "settings"), [("resunet", SETTINGS), ("vit-unet", {"preset": "small"})])
def test_round_weights_changes_kernels_only_and_once(name, settings):
    torch.manual_seed(3)
    network = make_network(name, 3, settings)
    for parameter in network.parameters():
        parameter.data.normal_()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    round_weights(network)
    once = {k: v.clone() for k, v in network.state_dict().items()}
    for key, value in once.items():
        assert value.dtype == before[key].dtype
        expected = before[key].half().float() if before[key].ndim in (2, 4) else before[key]
        assert torch.equal(value, expected), key
    assert any(not torch.equal(once[k], before[k]) for k in once)
    round_weights(network)
    assert all(torch.equal(v, once[k]) for k, v in network.state_dict().items())


def test_parity_measures_how_far_two_networks_are_apart(exported):
    predictor, folder = exported
    images = [torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0)) for sides in ((12, 20), (24, 16))]
    assert parity(predictor, folder / "network.onnx", images) < 1e-4
    other = make_predictor(seed=1)
    assert parity(other, folder / "network.onnx", images) > 0.01
    assert np.isnan(parity(other, folder / "network.onnx", [images[0], images[1] * np.nan]))


@pytest.mark.parametrize("difference", [0.002, float("nan")])
def test_an_export_that_differs_is_a_model_error(difference, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "parity", lambda *args: difference)
    with pytest.raises(ModelError, match="differs from the trained one"):
        export_network(make_predictor().network, REPRESENTATION, tmp_path / "n.onnx", tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["unet", "vit-unet", "swin-unet"])
def test_networks_of_windows_are_exported_for_windows(name, tmp_path, recwarn):
    torch.manual_seed(0)
    network = make_network(name, 3, {"preset": "small"})
    round_weights(network)
    onnx, weights = tmp_path / "network.onnx", tmp_path / "weights.safetensors"
    export_network(network, REPRESENTATION, onnx, weights)  # compares with torch
    assert [str(w.message) for w in recwarn if "torch.onnx" in str(w.filename)] == []

    expected = network.state_dict()
    with safe_open(weights, framework="pt") as file:
        dtypes = {key: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    assert dtypes == {
        key: torch.float16 if value.is_floating_point() and value.ndim in (2, 4) else value.dtype
        for key, value in expected.items()
    }
    loaded = load_network(name, 3, {"preset": "small"}, weights).state_dict()
    assert [key for key, value in loaded.items() if not torch.equal(value, expected[key])] == []

    engine = OpenVinoEngine(onnx, threads=1, precision="f32")
    assert engine(np.zeros((3, 256, 256), dtype=np.float32)).shape == (3, 256, 256)
    with pytest.raises(ModelError, match=r"image of shape \(3, 288, 256\)"):
        engine(np.zeros((3, 288, 256), dtype=np.float32))
