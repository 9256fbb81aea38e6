"""An int8 network is made, compared, kept only where it is worth it, and run unless another precision is asked for."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("nncf")

from fewcell.data.dataset import open_dataset
from fewcell.engine import choose_precision, cpu_precision, offered_precisions, openvino
from fewcell.errors import ConfigError, DeviceError, ModelError
from fewcell.metrics import f1, match
from fewcell.segmenter import INT8_FILE, Segmenter, read_model
from fewcell.training import quantise


@pytest.fixture
def model(trained, disc_dataset, tmp_path):
    """A copy of a model, and the images that it has learned from."""
    Segmenter.load(trained.folder, threads=1).save(tmp_path / "model")
    samples = [sample for sample in open_dataset(disc_dataset) if sample.labels]
    return tmp_path / "model", samples


def test_an_int8_network_that_is_worth_it_is_run(model, draw_discs, monkeypatch, tmp_path) -> None:
    folder, samples = model
    monkeypatch.setattr("fewcell.engine.adds_int8_in_full", lambda: True)  # as not every CPU does
    if "int8" not in offered_precisions(has_int8=True):
        pytest.skip("this CPU runs no int8 network")
    monkeypatch.setattr(quantise, "_times_faster", lambda *_: 1.5)
    measured = quantise.add_int8(folder, samples, samples, threads=1)
    assert measured.f1_50 >= measured.f1_50_before - quantise.MOST_F1_LOST
    assert read_model(folder).int8 == measured
    fast, exact = (Segmenter.load(folder, threads=1, precision=p) for p in ("auto", "f32"))
    assert (fast.precision, exact.precision) == ("int8", "f32")
    image = draw_discs(3)[0][None].astype(np.float32)
    whole = image.repeat(3, axis=0)[:, :256, :256] / image.max()
    difference = np.abs(fast.engine(whole) - exact.engine(whole))
    assert difference.max() > 1e-4, "another network"
    assert difference.mean() < 0.02, "that says the same"
    found = [segmenter.segment(image, diameter_px=22).labels for segmenter in (fast, exact)]
    assert f1(match(found[1], found[0])) > 0.95
    fast.save(tmp_path / "copy")
    assert Segmenter.load(tmp_path / "copy", threads=1).precision == "int8"


@pytest.mark.parametrize(("f1s", "times_faster"), [((0.9, 0.8), 2.0), ((0.9, 0.9), 0.9)])
def test_an_int8_network_that_is_worse_or_slower_is_left_out(model, monkeypatch, f1s, times_faster) -> None:
    folder, samples = model
    monkeypatch.setattr(quantise, "_times_faster", lambda *_: times_faster)
    reached = iter(f1s)
    monkeypatch.setattr(quantise, "_f1", lambda *_: next(reached))
    measured = quantise.add_int8(folder, samples, samples, threads=1)
    assert (measured.f1_50_before, measured.f1_50, measured.times_faster) == (*f1s, times_faster)
    assert not (folder / INT8_FILE).exists()
    assert Segmenter.load(folder, threads=1).precision == cpu_precision()
    with pytest.raises(ModelError, match="has no int8 network"):
        Segmenter.load(folder, threads=1, precision="int8")


def test_a_network_that_sees_windows_is_calibrated_and_timed_on_windows(model, monkeypatch) -> None:
    folder, samples = model
    facts = read_model(folder)
    windows = facts.model_copy(update={"network": facts.network.model_copy(update={"window_px": 64})})
    monkeypatch.setattr(quantise, "read_model", lambda folder: windows)
    assert {image.shape for image in quantise._calibration(folder, samples)} == {(3, 64, 64)}
    shapes = []
    engine = lambda image: shapes.append(image.shape) or image  # noqa: E731
    quantise._times_faster(engine, engine, 64)
    assert set(shapes) == {(3, 64, 64)}


def test_a_precision_that_cannot_be_had_is_a_clear_error(monkeypatch) -> None:
    able: list[str] = ["FP32", "INT8", "BF16"]
    features = {"avx512vnni": True}
    monkeypatch.setattr(openvino(), "Core", lambda: SimpleNamespace(get_property=lambda *_: able))
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    assert choose_precision("auto", has_int8=True) == "int8"
    assert choose_precision("auto", has_int8=False) == "bf16"
    assert choose_precision("f32", has_int8=True) == "f32"
    with pytest.raises(ConfigError, match="no precision 'int4'; did you mean 'int8'"):
        choose_precision("int4", has_int8=True)
    features["avx512vnni"] = False
    assert choose_precision("auto", has_int8=True) == "bf16", "sums of int8 may overflow"
    assert choose_precision("int8", has_int8=True) == "int8", "but who asks for it has it"
    able.remove("BF16")
    assert choose_precision("auto", has_int8=False) == "f32"
    able.remove("INT8")
    assert choose_precision("auto", has_int8=True) == "f32", "an int8 network is of no use to it"
    with pytest.raises(DeviceError, match="does not compute in int8"):
        choose_precision("int8", has_int8=True)
    with pytest.raises(DeviceError, match="does not compute in bf16"):
        choose_precision("bf16", has_int8=True)
