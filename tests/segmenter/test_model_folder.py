"""Every way in which a model folder can be wrong is one clear ModelError; writing one is all or nothing."""

import json
import os
import shutil

import pytest

from fewcell.config import Part
from fewcell.errors import ModelError, WriteError
from fewcell.segmenter import ModelFacts, NetworkFacts, ScorerFacts, SourceFacts, find_model, model_folder
from fewcell.segmenter.model_folder import read_model, sha256, write_model

FACTS = ModelFacts(
    fewcell_version="0.0",
    network=NetworkFacts(
        name="resunet", settings={"widths": [8, 12]}, stride=2, multiple_px=4, reach_px=38, window_px=None
    ),
    representation=Part(name="boundary", settings={"grow_px": 2}),
    scorer=ScorerFacts(mean=(0.1,), scale=(1 / 3,), weights=(1.5, -2.5), bias=0.25),
    min_score=0.4,
    diameter_bias=1.0,
    min_surest=0.0,
    canonical_diameter_px=24.0,
    trained_on={"drawn": SourceFacts(images=3, licence="CC0")},
    held_out={"f1_50": 0.9},
    recipe={"steps": 3, "minutes": None},
    sha256={},
)


@pytest.fixture
def files(tmp_path):
    """Two networks and weights; a folder is checked, not run, so any bytes will do."""
    source = tmp_path / "files"
    source.mkdir()
    (source / "n").write_bytes(b"network" * 1000)
    (source / "s").write_bytes(b"scale" * 1000)
    (source / "w").write_bytes(b"weights" * 1000)
    return source / "n", source / "s", source / "w"


@pytest.fixture
def folder(tmp_path, files):
    write_model(tmp_path / "models" / "tiny", FACTS, *files)
    return tmp_path / "models" / "tiny"


@pytest.fixture
def change(folder):
    """Change model.json by a function of its content."""

    def change(edit):
        path = folder / "model.json"
        raw = json.loads(path.read_text())
        edit(raw)
        path.write_text(json.dumps(raw))

    return change


def assert_wrong(folder, words):
    with pytest.raises(ModelError, match=words) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)


def test_a_round_trip_gives_all_facts_back(folder, files):
    facts = read_model(folder)
    assert facts.model_copy(update={"sha256": {}}) == FACTS
    names = ("network.onnx", "scale.onnx", "weights.safetensors")
    assert facts.sha256 == {name: sha256(file) for name, file in zip(names, files, strict=True)}
    assert (folder / "network.onnx").read_bytes() == files[0].read_bytes()
    assert [(folder / name).read_bytes() for name in names[1:]] == [file.read_bytes() for file in files[1:]]


def test_sha256_is_the_one_that_everybody_means(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_model_is_found_by_name_or_path(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "files", lambda package: tmp_path)
    assert find_model("tiny") == folder
    assert find_model(folder) == folder
    assert find_model(str(folder)) == folder
    with pytest.raises(ModelError, match="no model folder 'tinny'; did you mean 'tiny'"):
        find_model("tinny")
    with pytest.raises(ModelError, match="no model folder 'elsewhere/x'; known: tiny"):
        find_model("elsewhere/x")


def test_a_name_in_the_package_wins_over_a_folder_that_lies_here(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "files", lambda package: tmp_path)
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert find_model("tiny") == folder
    assert find_model("./tiny").resolve() == tmp_path / "here" / "tiny"


def test_without_any_packaged_model_a_missing_one_is_still_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "files", lambda package: tmp_path)
    with pytest.raises(ModelError, match="no model folder 'default'; known: none"):
        find_model("default")


def test_a_folder_without_facts(folder):
    (folder / "model.json").unlink()
    assert_wrong(folder, "no model folder: it has no model.json")


@pytest.mark.parametrize("content", [b"", b"{", b'{"network": }', b"\xff\xfe\x00", b'{"a": 1} trailing'])
def test_facts_that_are_no_json(folder, content):
    (folder / "model.json").write_bytes(content)
    assert_wrong(folder, "model.json is damaged")


@pytest.mark.parametrize("content", ["[]", "[1]", "3", "null", '"text"'])
def test_facts_that_are_no_object(folder, content):
    (folder / "model.json").write_text(content)
    assert_wrong(folder, "not a model description: model.json")


@pytest.mark.parametrize("key", sorted(set(ModelFacts.model_fields) - {"schema_version", "int8"}))
def test_a_missing_key(folder, change, key):
    change(lambda raw: raw.pop(key))
    assert_wrong(folder, f"not a model description: {key}: Field required")


@pytest.mark.parametrize("part", [(), ("network",), ("representation",), ("scorer",), ("trained_on", "drawn")])
def test_an_extra_key(folder, change, part):
    def add(raw):
        for key in part:
            raw = raw[key]
        raw["colour"] = 1

    change(add)
    assert_wrong(folder, f"{'.'.join((*part, 'colour'))}: Extra inputs are not permitted")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("network", "stride", 0),
        ("network", "multiple_px", -4),
        ("network", "reach_px", "far"),
        ("network", "window_px", 0),
        ("scorer", "bias", float("nan")),
        ("scorer", "scale", [1.0, 2.0]),
        ("scorer", "weights", [1.0]),
        (None, "canonical_diameter_px", 0),
        (None, "canonical_diameter_px", float("inf")),
        (None, "min_score", float("nan")),
        (None, "min_score", 1.5),
    ],
)
def test_a_value_that_cannot_be(folder, change, part, key, value):
    change(lambda raw: (raw[part] if part else raw).update({key: value}))
    assert_wrong(folder, f"not a model description: {part or key}")


def test_a_window_off_the_grid(folder, change):
    change(lambda raw: raw["network"].update(window_px=255))
    assert_wrong(folder, "not a model description: network: .*window_px 255 is not a multiple of multiple_px 4")


def test_a_newer_schema(folder, change):
    change(lambda raw: raw.update(schema_version=4, colour="new"))
    assert_wrong(folder, r"newer fewcell \(schema 4, this one reads 3\).*pip install \.$")


def test_an_older_schema(folder, change):
    change(lambda raw: raw.update(schema_version=2, diameter_bias=1.0))
    assert_wrong(folder, r"older fewcell \(schema 2, this one reads 3\).*Train the model again")


@pytest.mark.parametrize("version", ["1.5", None, [1]])
def test_a_schema_that_never_was(folder, change, version):
    change(lambda raw: raw.update(schema_version=version))
    assert_wrong(folder, "not a model description: schema_version")


@pytest.mark.parametrize("name", ["network.onnx", "scale.onnx", "weights.safetensors"])
def test_a_file_that_is_truncated_or_changed(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    assert_wrong(folder, f"{name} is damaged: its checksum is wrong")
    (folder / name).write_bytes(b"X" + content[1:])
    assert_wrong(folder, f"{name} is damaged: its checksum is wrong")


@pytest.mark.parametrize("name", ["network.onnx", "scale.onnx", "weights.safetensors"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    assert_wrong(folder, f"lacks {name}")
    (folder / name).mkdir()
    assert_wrong(folder, f"lacks {name}")


def test_a_checksum_is_wrong_or_missing(folder, change):
    change(lambda raw: raw["sha256"].update({"network.onnx": "0" * 64}))
    assert_wrong(folder, r"network.onnx is damaged")
    change(lambda raw: raw["sha256"].pop("network.onnx"))
    assert_wrong(folder, "no checksum of network.onnx")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/network.onnx", "", ".", "model.json"])
def test_checksums_name_no_other_file(folder, change, name):
    (folder.parent / "secret").write_bytes(b"abc")
    change(lambda raw: raw["sha256"].update({name: sha256(folder.parent / "secret")}))
    assert_wrong(folder, "names an unknown file")


def test_a_model_is_replaced_whole(folder, files):
    (folder / "stale.txt").write_text("from the old model")
    write_model(folder, FACTS.model_copy(update={"min_score": 0.7}), *files)
    assert read_model(folder).min_score == 0.7
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.json",
        "network.onnx",
        "scale.onnx",
        "weights.safetensors",
    ]
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]


def test_a_model_that_cannot_be_written_leaves_the_old_one(folder, files, monkeypatch):
    def fail(path):
        raise OSError("No space left on device")

    monkeypatch.setattr(model_folder, "sha256", fail)
    with pytest.raises(WriteError, match=f"{folder} cannot be written: No space left"):
        write_model(folder, FACTS.model_copy(update={"min_score": 0.7}), *files)
    monkeypatch.undo()
    assert read_model(folder).min_score == FACTS.min_score
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]


def test_a_model_that_cannot_be_put_in_its_place_leaves_the_old_one(folder, files, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if source.name == "model":
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WriteError, match=f"{folder} cannot be written: Permission denied"):
        write_model(folder, FACTS.model_copy(update={"min_score": 0.7}), *files)
    monkeypatch.undo()
    assert read_model(folder).min_score == FACTS.min_score
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]


def test_what_is_no_model_is_never_replaced(tmp_path, files):
    data = tmp_path / "data"
    data.mkdir()
    (data / "precious.csv").write_text("1")
    for target in (data, data / "precious.csv"):
        with pytest.raises(WriteError, match="is no model folder, so it is not replaced"):
            write_model(target, FACTS, *files)
    assert (data / "precious.csv").read_text() == "1"


def test_a_folder_can_be_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    assert read_model(tmp_path / "elsewhere").network == FACTS.network
