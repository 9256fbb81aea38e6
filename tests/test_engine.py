"""The engine runs a network where it was asked to, or says why it cannot."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fewcell.engine import (
    ONEDNN_KEEPS,
    OpenVinoEngine,
    TorchEngine,
    available_threads,
    check_device,
    cpu_precision,
)
from fewcell.errors import DeviceError, MissingDependencyError, ModelError
from fewcell.segmenter import INT8_FILE, Segmenter, find_model


@pytest.fixture
def image():
    return np.random.default_rng(0).random((3, 16, 24), dtype=np.float32)


def test_an_unknown_device_is_a_device_error(trained):
    with pytest.raises(DeviceError, match="no device 'tpu'; known: cpu, cuda"):
        check_device("tpu")
    with pytest.raises(DeviceError, match="tpu"):
        Segmenter.load(trained.folder, device="tpu")


def test_cuda_without_a_gpu_is_a_device_error(trained, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="finds no GPU here"):
        Segmenter.load(trained.folder, device="cuda")


def test_cuda_without_torch_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[train\]'"):
        check_device("cuda")
    check_device("cpu")


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_garbage_is_a_model_error_of_one_line(share, tmp_path, trained):
    content = (trained.folder / "network.onnx").read_bytes()
    path = tmp_path / "network.onnx"
    path.write_bytes(content[: int(len(content) * share)] if share < 1 else b"garbage" * 100)
    with pytest.raises(ModelError, match=r"OpenVINO cannot run .*network\.onnx: ") as caught:
        OpenVinoEngine(path)
    assert "\n" not in str(caught.value)


def test_a_missing_network_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        OpenVinoEngine(tmp_path / "missing.onnx")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_respected(threads, trained):
    engine = OpenVinoEngine(trained.folder / "network.onnx", threads=threads)
    assert engine._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == threads
    assert Segmenter.load(trained.folder, threads=threads).engine.threads == threads


def test_by_default_there_is_a_thread_for_each_core_that_may_be_used(trained, monkeypatch):
    assert available_threads() >= 1
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3}, raising=False)
    assert OpenVinoEngine(trained.folder / "network.onnx").threads == 1


def test_auto_precision_is_what_the_cpu_computes_in(trained):
    assert cpu_precision() in ("bf16", "f32")
    assert OpenVinoEngine(trained.folder / "network.onnx").precision == cpu_precision()


def test_the_result_is_a_new_array_for_every_image(trained, image):
    engine = OpenVinoEngine(trained.folder / "network.onnx", threads=1, precision="f32")
    first = engine(image)
    before = first.copy()
    second = engine(1 - image)
    assert first.dtype == np.float32
    assert first.shape == (3, 8, 12)
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)
    view = np.repeat(image, 2, axis=2)[:, :, ::2]
    assert not view.flags.c_contiguous
    assert np.array_equal(engine(view), first)


def test_the_torch_engine_agrees_with_openvino(trained, image):
    from fewcell.networks import Predictor, load_network
    from fewcell.representations import make_representation

    settings = {"widths": [8, 12], "blocks": 1}
    network = load_network("resunet", 3, settings, trained.folder / "weights.safetensors")
    on_torch = TorchEngine(Predictor(network, make_representation("boundary").activate), "cpu")(image)
    on_openvino = OpenVinoEngine(trained.folder / "network.onnx", threads=1, precision="f32")(image)
    assert on_torch.dtype == np.float32
    np.testing.assert_allclose(on_torch, on_openvino, atol=1e-4)


SIGNALLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from fewcell.engine import OpenVinoEngine
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
image = np.zeros((3, 16, 24), dtype=np.float32)
engines = [OpenVinoEngine(Path(sys.argv[1]), threads=1) for _ in range(2)]
for engine in engines:
    engine(image)
engines.pop(0)
del engine
engines.pop()
os.kill(os.getpid(), signal.SIGUSR1)
assert heard
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal on this system")
def test_a_signal_is_heard_after_engines_have_ended_in_any_order(trained):
    done = subprocess.run([sys.executable, "-c", SIGNALLED, str(trained.folder / "network.onnx")], check=False)
    assert done.returncode == 0


MANY_SHAPES = """
import sys
from pathlib import Path
import numpy as np
from fewcell.engine import OpenVinoEngine

def resident_mib():
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

engine = OpenVinoEngine(Path(sys.argv[1]), threads=1)
engine(np.zeros((3, 512, 512), np.float32))
resident = [resident_mib()]
for high in (1, 2):
    for side in range(64, 512, 16):
        engine(np.zeros((3, side // high // 16 * 16, side), np.float32))
    resident.append(resident_mib())
print(*np.diff(resident))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says here how much memory is in use")
def test_kernels_for_shapes_that_are_gone_are_not_kept(monkeypatch) -> None:
    """Those of 28 shapes take nearly 300 MiB, and those of as many more hardly any."""
    monkeypatch.delenv(ONEDNN_KEEPS, raising=False)
    network = find_model("default") / INT8_FILE
    done = subprocess.run([sys.executable, "-c", MANY_SHAPES, network], capture_output=True, text=True, check=True)
    first, more = map(float, done.stdout.split())
    assert more < 100
    assert first + more < 400


def test_the_onednn_of_torch_keeps_its_kernels(trained, monkeypatch) -> None:
    monkeypatch.delenv(ONEDNN_KEEPS, raising=False)
    Segmenter.load(trained.folder)
    assert ONEDNN_KEEPS not in os.environ
    monkeypatch.setenv(ONEDNN_KEEPS, "7")
    Segmenter.load(trained.folder)
    assert os.environ[ONEDNN_KEEPS] == "7", "whoever has said how many is heard"


def test_nothing_is_sent_and_nothing_written_at_home(tmp_path):
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from fewcell import Segmenter, cli\n"
        "cli.app(['info'], standalone_mode=False)\n"
        "Segmenter.load(threads=1).segment(np.random.default_rng(0).random((1, 64, 64), dtype=np.float32))\n"
        "assert not any(name.startswith('openvino_telemetry.') for name in sys.modules)\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [*tmp_path.rglob("*")] == []
