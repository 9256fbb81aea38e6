"""The napari plugin without napari: its manifest by npe2, its functions called as napari calls them."""

import csv
import shutil
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tifffile
from npe2 import PluginManager, PluginManifest
from PIL import Image as PillowImage

from fewcell.errors import AxesError, TooLargeError
from fewcell.handover import napari_widget
from fewcell.handover.napari_reader import get_reader
from fewcell.handover.napari_widget import segment_layer
from fewcell.images import read_labels, write_labels
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.slides import segment_inputs

MANIFEST = Path(str(files("fewcell.handover"))) / "napari.yaml"


@pytest.fixture(scope="module")
def found(draw_discs, tmp_path_factory) -> Path:
    """What fewcell writes of a small image, and of one as of a slide."""
    folder = tmp_path_factory.mktemp("napari")
    PillowImage.fromarray(draw_discs(0)[0]).save(folder / "small.png")
    tifffile.imwrite(folder / "large.tif", np.tile(draw_discs(1)[0], (12, 3)))
    segmenter, settings = Segmenter.load(threads=1), FileSettings(diameter=22, pixel_size_um=0.5)
    list(segment_inputs(segmenter, [folder / "small.png"], folder, settings))
    list(segment_inputs(segmenter, [folder / "large.tif"], folder, settings, exports=["geojson", "tiff"]))
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def manager() -> PluginManager:
    made = PluginManager()
    made.register(PluginManifest.from_file(MANIFEST))
    made.activate("fewcell")
    return made


def test_the_manifest_is_valid_and_all_that_it_names_is_there() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert {c.python_name.split(":")[1] for c in manifest.contributions.commands} == {"get_reader", "segment_layer"}
    project = Path(__file__).parents[2] / "pyproject.toml"
    points = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"]["napari.manifest"]
    assert points == {"fewcell": "fewcell.handover:napari.yaml"}
    assert manifest.name in points


@pytest.mark.parametrize("name", ["small_label.tiff", "large_label.tiff", "large_label.zarr"])
def test_labels_are_opened_with_their_table(found, manager, name: str) -> None:
    path = [str(found / name)]
    (reader,) = manager.iter_compatible_readers(path)
    opener = reader.exec(kwargs={"path": path, "stack": False}, _registry=manager.commands)
    ((data, options, kind),) = opener(path, stack=False)
    assert kind == "labels"
    stem = name.split("_")[0]
    rows = rows_of(found / f"{stem}_cells.csv")
    finest = data[0] if isinstance(data, list) else data
    assert np.array_equal(np.unique(finest[:]), np.arange(len(rows) + 1))
    assert options["name"] == f"{stem} cells"
    assert "scale" not in options, "the image may be open without one"
    assert options["features"]["index"].tolist() == [int(row["id"]) for row in rows]
    assert options["features"]["score"] == pytest.approx([float(row["score"]) for row in rows])
    assert options["metadata"]["fewcell"]["diameter_px"] == 22
    if name.endswith("zarr"):
        assert options["multiscale"] is True
        assert [level.shape for level in data] == [(1152, 288), (576, 144)]
        np.testing.assert_array_equal(data[0][:], read_labels(found / "large_label.tiff"))


def test_without_a_table_labels_are_opened_alone(found, tmp_path) -> None:
    path = shutil.copy(found / "small_label.tiff", str(tmp_path / "x_label.tiff"))
    ((_, options, _),) = get_reader(path)(path)
    assert "features" not in options


def test_what_others_wrote_is_left_to_others(found, tmp_path) -> None:
    write_labels(tmp_path / "a_label.tiff", np.ones((9, 9), np.int32))
    tifffile.imwrite(tmp_path / "b_label.tiff", np.zeros((9, 9), np.uint8), description='{"axes": 2}')
    tifffile.imwrite(tmp_path / "c_label.tiff", np.zeros((9, 9), np.uint8), ome=True)
    (tmp_path / "d_label.tiff").write_bytes(b"none")
    (tmp_path / "e.zarr").mkdir()
    others = [str(path) for path in sorted(tmp_path.iterdir())]
    assert [get_reader(path) for path in others] == [None] * 5
    assert get_reader([str(found / "small_label.tiff"), others[0]]) is None


def layer_of(data: np.ndarray, **changes: object) -> SimpleNamespace:
    """As much of a napari image layer as a plugin may ask for."""
    facts = {"name": "field", "rgb": False, "multiscale": False, "scale": [0.5, 0.5], "translate": [3.0, 4.0]}
    return SimpleNamespace(data=data, **(facts | changes))


def test_a_gray_layer_is_segmented_where_it_lies(draw_discs) -> None:
    image, truth = draw_discs(3)
    labels, options, kind = segment_layer(layer_of(image, scale=[1.0, 0.5, 0.5], translate=[0.0, 3.0, 4.0]), 22.0)
    assert kind == "labels"
    assert labels.shape == image.shape
    assert abs(int(labels.max()) - int(truth.max())) <= 3
    assert options["name"] == "field cells"
    assert (list(options["scale"]), list(options["translate"])) == ([0.5, 0.5], [3.0, 4.0])
    assert options["features"]["index"].tolist() == [*range(1, labels.max() + 1)]
    assert options["metadata"]["fewcell"]["diameter_source"] == "given"
    few, *_ = segment_layer(layer_of(image), 22.0, 0.999)
    assert few.max() < labels.max()


def test_colours_and_several_resolutions_are_taken(draw_discs) -> None:
    image = draw_discs(3)[0]
    colours = np.stack([image, image, image, np.full_like(image, 255)], axis=-1)
    gray, *_ = segment_layer(layer_of(image), 22.0)
    coloured, options, _ = segment_layer(layer_of([colours, colours[::2, ::2]], rgb=True, multiscale=True), 22.0)
    np.testing.assert_array_equal(coloured > 0, gray > 0)
    assert {"mean_red", "mean_green", "mean_blue"} <= set(options["features"])


def test_stacks_and_slides_are_refused_with_what_to_do(monkeypatch) -> None:
    with pytest.raises(AxesError, match=r"has 3 dimensions.*Split Stack"):
        segment_layer(layer_of(np.zeros((4, 20, 20))))
    monkeypatch.setattr(napari_widget, "LARGE_PX", 400)
    with pytest.raises(TooLargeError, match=r"20 x 20 pixels.*fewcell segment"):
        segment_layer(layer_of(np.zeros((20, 20))))


def test_magicgui_makes_a_widget_of_the_signature(monkeypatch) -> None:
    """As napari does it; napari itself is a stand-in with the two names that the signature mentions."""
    import magicgui
    from magicgui.application import use_app

    for name, inside in (("napari", ()), ("napari.layers", ("Image",)), ("napari.types", ("LayerDataTuple",))):
        module = ModuleType(name)
        for one in inside:
            setattr(module, one, type(one, (), {}))
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("layers", "types"):
        setattr(sys.modules["napari"], name, sys.modules[f"napari.{name}"])
    use_app("ipynb")
    magicgui.register_type(sys.modules["napari"].layers.Image, choices=lambda widget: [])
    widget = magicgui.magicgui(segment_layer)
    assert [one.name for one in widget] == ["image", "diameter_px", "min_score", "model", "call_button"]
    assert (widget.min_score.min, widget.min_score.max) == (0, 1)
    widget.diameter_px.value = 800
