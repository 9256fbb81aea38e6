"""The contract of networks; every variant of the table is picked up by itself, with its small preset if it has one."""

import inspect
import re
import sys
from collections.abc import Callable

import numpy as np
import pytest

from fewcell.engine import openvino
from fewcell.errors import ConfigError, MissingDependencyError, ModelError
from fewcell.tiles import padded_shape, predict_tiled
from fewcell.types import FloatArray

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from fewcell.networks import NETWORKS, Network, Predictor, load_network, make_network  # noqa: E402

OUT_CHANNELS = 4

OTHER_KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "resunet, reparameterised": ("resunet", {"widths": [4, 8, 12, 16], "block": "reparameterised"}),
    "resunet, depthwise": ("resunet", {"widths": [4, 8, 12, 16], "block": "depthwise"}),
    "resunet, at a quarter": ("resunet", {"widths": [12, 16, 24], "stem_width": 8}),
}
"""Of a network that has settings which change its form."""

every_network = pytest.mark.parametrize("name", [*NETWORKS, *OTHER_KINDS])


def kind(name: str) -> tuple[str, dict[str, object]]:
    """The name in the table, and the settings."""
    has_preset = name in NETWORKS and "preset" in inspect.signature(NETWORKS[name]).parameters
    return OTHER_KINDS.get(name, (name, {"preset": "small"} if has_preset else {}))


def build(name: str, out_channels: int = OUT_CHANNELS) -> Network:
    variant, settings = kind(name)
    return make_network(variant, out_channels, settings)


def sharp(name: str, seed: int = 0) -> Network:
    """A network in double precision with random weights and norms, in which no pixel's influence is lost."""
    torch.manual_seed(seed)
    network = build(name).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            torch.nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, 0.1, 0.5)
    return network


def multiples(network: Network, *counts: int) -> tuple[int, ...]:
    """Sides of so many multiples; of a network that is only given windows, the window's."""
    return tuple(network.window_px or count * network.multiple_px for count in counts)


@every_network
@pytest.mark.parametrize("counts", [(1, 1), (3, 1), (5, 7)])
def test_the_output_is_the_image_divided_by_the_stride(name: str, counts: tuple[int, int]) -> None:
    network = build(name).eval()
    if network.window_px and counts != (1, 1):
        pytest.skip("takes one size only")
    height, width = multiples(network, *counts)
    assert network.multiple_px % network.stride == 0
    assert (network.window_px or 0) % network.multiple_px == 0
    with torch.no_grad():
        output = network(torch.rand(2, 3, height, width))
    assert output.shape == (2, OUT_CHANNELS, height // network.stride, width // network.stride)


@every_network
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    network = sharp(name)
    images = torch.rand(2, 3, *multiples(network, 2, 3), dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(network(images)[1:], network(images[1:]), atol=1e-12)


@every_network
def test_a_network_without_bound_has_windows(name: str) -> None:
    """What it says of a pixel would else depend on the size of the image; and pixels far away do change something."""
    network = sharp(name)
    assert (network.reach_px is None) == (network.window_px is not None)
    if network.window_px is None:
        return
    image = torch.rand(1, 3, network.window_px, network.window_px, dtype=torch.float64)
    other = image.clone()
    other[:, :, -1, -1] += 10
    with torch.no_grad():
        assert (network(other) - network(image))[0, :, 0, 0].abs().max() > 1e-9


@every_network
def test_pixels_may_lie_channels_last(name: str) -> None:
    """As they do in training."""
    torch.manual_seed(0)
    network = build(name).eval()
    images = torch.rand(2, 3, *multiples(network, 2, 3))
    with torch.no_grad():
        expected = network(images)
        network.to(memory_format=torch.channels_last)
        found = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


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
@pytest.mark.parametrize("more_px", [64, 100, 256])
def test_tiles_give_what_the_whole_image_gives(name: str, more_px: int) -> None:
    network = sharp(name, seed=more_px)
    if network.reach_px is None:
        pytest.skip("sees the whole image at once")
    largest = 0

    def predict(image: FloatArray) -> FloatArray:
        nonlocal largest
        largest = max(largest, image[0].size)
        with torch.no_grad():
            return network(torch.from_numpy(image).double()[None])[0].numpy()

    rng = np.random.default_rng(more_px)
    seen_px = 2 * (network.reach_px + network.multiple_px) + more_px
    for shape in [(seen_px + 31, 70), (37, seen_px + network.reach_px)]:
        field = padded_shape(shape, network.multiple_px)
        missing = [(0, new - old) for new, old in zip(field, shape, strict=True)]
        image = np.pad(rng.normal(size=(3, *shape)).astype(np.float32), [(0, 0), *missing], mode="symmetric")

        def look(window: tuple[int, int, int, int], image: FloatArray = image) -> FloatArray:
            top, left, bottom, right = window
            return image[:, top:bottom, left:right]

        grid = {"stride": network.stride, "multiple_px": network.multiple_px}
        whole = predict_tiled(look, shape, predict, **grid, halo_px=0, most_px=None)
        of_whole, largest = largest, 0
        tiled = predict_tiled(look, shape, predict, **grid, halo_px=network.reach_px, most_px=seen_px * min(field))
        assert largest < of_whole, "this was one tile: it shows nothing"
        assert tiled.shape == whole.shape == (OUT_CHANNELS, *(-(-side // network.stride) for side in shape))
        np.testing.assert_allclose(tiled, whole, atol=1e-5, rtol=1e-5)


@every_network
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    network = build(name).train()
    output = network(torch.randn(2, 3, *multiples(network, 4, 5)))
    (output * torch.randn(output.shape)).sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert all(p.requires_grad for p in network.parameters())


@every_network
def test_the_predictor_activates_the_output(name: str) -> None:
    network = sharp(name)
    image = torch.rand(1, 3, *multiples(network, 1, 2), dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(Predictor(network, torch.sigmoid)(image), torch.sigmoid(network(image)))


@every_network
def test_weights_of_another_network_are_refused(name: str, tmp_path) -> None:
    from safetensors.torch import save_file

    network, path = build(name), tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    variant, settings = kind(name)
    loaded = load_network(variant, OUT_CHANNELS, settings, path)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_network(variant, OUT_CHANNELS + 1, settings, path)
    path.write_bytes(b"damaged")
    for damaged in (path, tmp_path / "missing"):
        with pytest.raises(ModelError, match="does not hold the weights"):
            load_network(variant, OUT_CHANNELS, settings, damaged)


@every_network
def test_every_setting_has_a_default(name: str) -> None:
    parameters = list(inspect.signature(NETWORKS[kind(name)[0]]).parameters.values())[1:]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters)


@pytest.mark.parametrize(
    ("name", "preset", "parameters"),
    [
        ("unet", "official", 1_626_072),
        ("unet", "small", 1_626_072),
        ("vit-unet", "official", 87_598_355),
        ("vit-unet", "small", 1_710_927),
        ("swin-unet", "official", 6_302_925),
        ("swin-unet", "small", 1_580_337),
    ],
)
def test_baselines_have_the_size_that_they_state(name: str, preset: str, parameters: int) -> None:
    """With the challenge's three classes. The large one is drawn up without memory for its weights."""
    with torch.device("meta" if name == "vit-unet" else "cpu"):
        network = make_network(name, 3, {"preset": preset})
    assert sum(p.numel() for p in network.parameters()) == parameters
    millions = re.search(rf"{preset}.*?([\d.]+) M parameters", NETWORKS[name].__doc__ or "", re.DOTALL)
    if millions:
        assert round(parameters / 1e6, 1) == float(millions[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_network("resnet", 3), "did you mean 'resunet'"),
        (lambda: make_network("resunet", 3, {"width": [8, 16]}), "did you mean 'widths'"),
        (lambda: make_network("resunet", 3, {"out_channels": 2}), "no setting 'out_channels'"),
        (lambda: make_network("resunet", 3, {"widths": 16}), "does not take these settings"),
        (lambda: make_network("resunet", 3, {"widths": []}), "does not take these settings"),
        (lambda: make_network("resunet", 3, {"widths": [8, -1]}), "does not take these settings"),
        (
            lambda: make_network("resunet", 3, {"block": "deep"}),
            "no block 'deep', only dense, depthwise, rep",
        ),
        (lambda: make_network("unet", 3, {"preset": "smal"}), "no preset 'smal'; did you mean 'small'"),
        (lambda: make_network("vit-unet", 3, {"preset": "tiny"}), "no preset 'tiny'; known: official, small"),
        (lambda: make_network("swin-unet", 3, {"preset": 2}), "does not take these settings"),
    ],
)
def test_unknown_names_and_settings_are_errors(make: Callable[[], Network], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_settings_may_come_as_lists() -> None:
    network = make_network("resunet", 2, {"widths": [4, 8], "blocks": 1})
    assert (network.multiple_px, network.stride) == (4, 2)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("unet", "monai"),
        ("vit-unet", "monai"),
        ("vit-unet", "einops"),
        ("swin-unet", "monai"),
        ("swin-unet", "einops"),
    ],
)
def test_a_baseline_without_its_library_is_a_clear_error(name, library, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"needs {library}, .*\.\[train\]"):
        make_network(name, OUT_CHANNELS)


def test_weights_without_safetensors_are_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match=r"safetensors.*\.\[train\]"):
        load_network("resunet", OUT_CHANNELS, {}, tmp_path / "weights.safetensors")


def test_branches_that_became_one_say_what_they_said() -> None:
    torch.manual_seed(0)
    block = make_network("resunet", 2, {"widths": [6], "blocks": 1, "block": "reparameterised"}).down[0][0][0]
    for _ in range(30):  # norms that are not those of the beginning
        block(3 * torch.randn(4, 6, 16, 16) + 1)
    for norm in block.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 20, 24)
    in_use = block.eval()(x)
    branches = (block.wide(x), block.narrow(x), x)
    summed = sum(norm(branch) for norm, branch in zip(block.norms, branches, strict=True))
    assert torch.allclose(in_use, summed.clamp(min=0), atol=1e-4)
    assert in_use.max() > 0


def test_branches_are_exported_as_one_convolution(tmp_path) -> None:
    torch.manual_seed(0)
    network = make_network("resunet", 2, {"widths": [4, 8], "blocks": 1, "block": "reparameterised"})
    network(torch.randn(2, 3, 32, 32))
    image, sizes = torch.rand(1, 3, 32, 48), {"image": {2: "h", 3: "w"}}
    names = {"input_names": ["image"], "output_names": ["prediction"], "dynamic_axes": sizes}
    torch.onnx.export(network.eval(), (image,), str(tmp_path / "n.onnx"), dynamo=False, **names)
    model = openvino().Core().read_model(tmp_path / "n.onnx")
    kinds = [operation.get_type_name() for operation in model.get_ops()]
    assert kinds.count("Convolution") == 4 + 2 * 3, "stem, way down, joint, head; and two in each of three blocks"
    seen = openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image.numpy()])[0]
    assert np.allclose(seen, network(image).detach().numpy(), atol=1e-4)
