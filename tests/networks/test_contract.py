"""The contract of networks; every variant of the table is picked up by itself."""

import inspect
import sys
from collections.abc import Callable

import numpy as np
import pytest

from fewcell.errors import ConfigError, MissingDependencyError, ModelError
from fewcell.tiles import predict_tiled
from fewcell.types import FloatArray

torch = pytest.importorskip("torch")

from fewcell.networks import NETWORKS, Network, Predictor, load_network, make_network  # noqa: E402

OUT_CHANNELS = 4

every_network = pytest.mark.parametrize("name", NETWORKS)


def sharp(name: str, seed: int = 0) -> Network:
    """A network in double precision with random weights and norms, in which no pixel's influence is lost."""
    torch.manual_seed(seed)
    network = make_network(name, OUT_CHANNELS).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            torch.nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, 0.1, 0.5)
    return network


def multiples(name: str, *counts: int) -> tuple[int, ...]:
    return tuple(count * make_network(name, OUT_CHANNELS).multiple_px for count in counts)


@every_network
@pytest.mark.parametrize("counts", [(1, 1), (3, 1), (5, 7)])
def test_the_output_is_the_image_divided_by_the_stride(name: str, counts: tuple[int, int]) -> None:
    height, width = multiples(name, *counts)
    network = make_network(name, OUT_CHANNELS).eval()
    assert network.multiple_px % network.stride == 0
    with torch.no_grad():
        output = network(torch.rand(2, 3, height, width))
    assert output.shape == (2, OUT_CHANNELS, height // network.stride, width // network.stride)


@every_network
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    network = sharp(name)
    images = torch.rand(2, 3, *multiples(name, 2, 3), dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(network(images)[1:], network(images[1:]), atol=1e-12)


@every_network
def test_no_pixel_beyond_the_reach_changes_the_output(name: str) -> None:
    """And the bound is not loose: pixels at half of it do change something, along either axis."""
    network = sharp(name)
    if network.reach_px is None:
        pytest.skip("states no bound")
    multiple, stride, reach = network.multiple_px, network.stride, network.reach_px
    long = -(-(2 * reach + 2 * multiple) // multiple) * multiple
    for axis in (0, 1):
        size = (long, multiple) if axis == 0 else (multiple, long)
        image = torch.rand(1, 3, *size, dtype=torch.float64)
        changed = []
        with torch.no_grad():
            before = network(image)
            for pixel in range(long // 2, long // 2 + multiple, 3):
                other = image.clone()
                other.select(2 + axis, pixel)[:] += 1e4
                difference = (network(other) - before).abs().amax(dim=(0, 1, 3 - axis))
                centres = stride * torch.nonzero(difference)[:, 0] + (stride - 1) / 2
                changed += [float((centres - pixel).abs().max())]
        assert reach / 2 < max(changed) <= reach


@every_network
@pytest.mark.parametrize("core_px", [64, 100, 256])
def test_tiles_give_what_the_whole_image_gives(name: str, core_px: int) -> None:
    network = sharp(name, seed=core_px)
    if network.reach_px is None:
        pytest.skip("sees the whole image at once")
    largest = 0

    def predict(image: FloatArray) -> FloatArray:
        nonlocal largest
        largest = max(largest, image[0].size)
        with torch.no_grad():
            return network(torch.from_numpy(image).double()[None])[0].numpy()

    rng = np.random.default_rng(core_px)
    for shape in [(3 * network.reach_px + 1, 70), (37, 2 * network.reach_px + core_px + 11)]:
        image = rng.normal(size=(3, *shape)).astype(np.float32)
        grid = {"stride": network.stride, "multiple_px": network.multiple_px}
        whole = predict_tiled(image, predict, **grid, halo_px=0, core_px=10**6)
        of_whole, largest = largest, 0
        tiled = predict_tiled(image, predict, **grid, halo_px=network.reach_px, core_px=core_px)
        assert largest < of_whole, "this was one tile: it shows nothing"
        assert tiled.shape == whole.shape == (OUT_CHANNELS, *(-(-side // network.stride) for side in shape))
        np.testing.assert_allclose(tiled, whole, atol=1e-5, rtol=1e-5)


@every_network
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    network = make_network(name, OUT_CHANNELS).train()
    output = network(torch.randn(2, 3, *multiples(name, 4, 5)))
    (output * torch.randn(output.shape)).sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert all(p.requires_grad for p in network.parameters())


@every_network
def test_the_predictor_activates_the_output(name: str) -> None:
    network = sharp(name)
    image = torch.rand(1, 3, *multiples(name, 1, 2), dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(Predictor(network, torch.sigmoid)(image), torch.sigmoid(network(image)))


@every_network
def test_weights_of_another_network_are_refused(name: str, tmp_path) -> None:
    from safetensors.torch import save_file

    network, path = make_network(name, OUT_CHANNELS), tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    loaded = load_network(name, OUT_CHANNELS, {}, path)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_network(name, OUT_CHANNELS + 1, {}, path)
    path.write_bytes(b"damaged")
    for damaged in (path, tmp_path / "missing"):
        with pytest.raises(ModelError, match="does not hold the weights"):
            load_network(name, OUT_CHANNELS, {}, damaged)


@every_network
def test_every_setting_has_a_default(name: str) -> None:
    settings = list(inspect.signature(NETWORKS[name]).parameters.values())[1:]
    assert all(setting.default is not inspect.Parameter.empty for setting in settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_network("resnet", 3), "did you mean 'resunet'"),
        (lambda: make_network("resunet", 3, {"width": [8, 16]}), "did you mean 'widths'"),
        (lambda: make_network("resunet", 3, {"out_channels": 2}), "no setting 'out_channels'"),
        (lambda: make_network("resunet", 3, {"widths": 16}), "does not take these settings"),
        (lambda: make_network("resunet", 3, {"widths": []}), "does not take these settings"),
        (lambda: make_network("resunet", 3, {"widths": [8, -1]}), "does not take these settings"),
    ],
)
def test_unknown_names_and_settings_are_errors(make: Callable[[], Network], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_settings_may_come_as_lists() -> None:
    network = make_network("resunet", 2, {"widths": [4, 8], "blocks": 1})
    assert (network.multiple_px, network.stride) == (4, 2)


def test_weights_without_safetensors_are_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match=r"safetensors.*fewcell\[train\]"):
        load_network("resunet", OUT_CHANNELS, {}, tmp_path / "weights.safetensors")
