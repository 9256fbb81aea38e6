import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.benchmark import evaluate_folders, save_rows, summarise
from fewcell.benchmark.tables import read_table
from fewcell.data.dataset import open_dataset
from fewcell.errors import DataError
from fewcell.metrics import score_image

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def cells(n=4, side=40):
    labels = np.zeros((side, side), np.uint16)
    for cell in range(n):
        labels[5 + 8 * cell : 10 + 8 * cell, 10:20] = cell + 1
    return labels


def write(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(labels).save(path)
    else:
        tifffile.imwrite(path, labels)


@pytest.fixture
def folders(tmp_path):
    """Three images: one predicted in full, one by half, one not at all."""
    for stem in "abc":
        write(tmp_path / "true" / f"{stem}_label.tiff", cells())
    write(tmp_path / "predicted" / "a_label.tiff", cells())
    write(tmp_path / "predicted" / "b_label.tiff", cells(2))
    write(tmp_path / "predicted" / "c_label.tiff", cells(0))
    return tmp_path / "true", tmp_path / "predicted"


def f1_by_stem(evaluation):
    return {row.stem: row.scores.f1[0] for row in evaluation.rows}


def test_scores_every_image(folders):
    evaluation = evaluate_folders(*folders)
    assert f1_by_stem(evaluation) == {"a": 1, "b": pytest.approx(4 / 6), "c": 0}
    assert evaluation.rows[1].scores == score_image(cells(), cells(2))
    assert evaluation.failures == ()
    assert evaluation.unscorable == ()
    assert evaluation.manifest is None
    assert {(row.modality, row.experiment == row.stem, row.seen) for row in evaluation.rows} == {
        ("unknown", True, None)
    }


@pytest.mark.parametrize("problem", ["missing", "shape", "broken", "unknown pixels", "two files"])
def test_an_unusable_prediction_counts_as_empty_and_the_others_finish(folders, problem):
    file = folders[1] / "a_label.tiff"
    if problem == "missing":
        file.unlink()
    elif problem == "shape":
        write(file, cells(side=41))
    elif problem == "broken":
        file.write_bytes(b"no image")
    elif problem == "unknown pixels":
        write(file, cells().astype(np.int16) - 1)
    else:
        write(folders[1] / "a_label.png", cells())
    evaluation = evaluate_folders(*folders)
    assert f1_by_stem(evaluation) == {"a": 0, "b": pytest.approx(4 / 6), "c": 0}
    (failure,) = evaluation.failures
    assert failure.stem == "a"
    assert failure.message == evaluation.rows[0].problem
    says = {
        "missing": "No prediction for a",
        "shape": "40 x 40 pixels .* 41 x 41",
        "broken": "a_label.tiff",
        "unknown pixels": "holds the label -1",
        "two files": "a_label.png, a_label.tiff",
    }
    assert re.search(says[problem], failure.message)
    assert evaluation.rows[0].scores.counts[0].n_true == 4
    assert summarise(evaluation).groups[0].means["f1_50"] == pytest.approx(4 / 6 / 3)


def test_broken_true_labels_are_a_failure_without_a_row(folders):
    (folders[0] / "b_label.tiff").write_bytes(b"no image")
    evaluation = evaluate_folders(*folders)
    assert [row.stem for row in evaluation.rows] == ["a", "c"]
    assert [failure.stem for failure in evaluation.failures] == ["b"]
    assert "true labels" in evaluation.failures[0].message


@pytest.mark.parametrize(
    "name", ["a_label.tif", "a_label.png", "a_labels.tiff", "a_labels.png", "a.tiff", "a.png", "a_label.TIF"]
)
def test_names_of_predictions(folders, name):
    (folders[1] / "a_label.tiff").rename(folders[1] / "keep.bin")
    write(folders[1] / name, cells())
    assert f1_by_stem(evaluate_folders(*folders))["a"] == 1


def test_a_file_named_as_the_image_yields_to_one_named_label(folders):
    write(folders[1] / "a.png", cells(0))
    write(folders[1] / "a_labels.tiff", cells(0))
    assert f1_by_stem(evaluate_folders(*folders))["a"] == 1


def test_an_image_of_cut_cells_is_listed_and_part_of_no_mean(folders):
    write(folders[0] / "c_label.tiff", cells()[5:10])
    write(folders[1] / "c_label.tiff", cells()[5:10])
    evaluation = evaluate_folders(*folders)
    assert evaluation.unscorable == ("c",)
    assert evaluation.failures == ()
    group = summarise(evaluation).groups[0]
    assert (group.n_images, group.means["f1_50"]) == (2, pytest.approx((1 + 4 / 6) / 2))


MANIFEST = """stem,split,source,modality,subject,experiment
t,train,lab,phase,nuclei,plate1
a,test,lab,phase,nuclei,plate1
b,test,lab,phase,nuclei,plate2
u,unlabelled,lab,phase,nuclei,plate2
"""


def test_unseen_means_no_training_image_of_the_experiment(folders, tmp_path):
    (tmp_path / "list.csv").write_text(MANIFEST)
    evaluation = evaluate_folders(*folders, manifest=tmp_path / "list.csv")
    a, b, c = evaluation.rows
    assert (a.source, a.modality, a.subject, a.experiment) == ("lab", "phase", "nuclei", "plate1")
    assert [row.seen for row in (a, b, c)] == [True, False, None]
    assert c.modality == "unknown"
    assert evaluation.manifest == tmp_path / "list.csv"


def test_a_dataset_folder_brings_its_manifest(folders, tmp_path):
    dataset = tmp_path / "data" / "test"
    dataset.mkdir(parents=True)
    folders[0].rename(dataset / "labels")
    (tmp_path / "data" / "manifest.csv").write_text(MANIFEST)
    for true_dir in (dataset, dataset / "labels"):
        evaluation = evaluate_folders(true_dir, folders[1])
        assert [row.modality for row in evaluation.rows] == ["phase", "phase", "unknown"]


def test_a_stem_in_two_splits_goes_by_the_name_of_the_folder(folders, tmp_path):
    twice = "a,train,lab,fluorescence,nuclei,plate1\n"
    (tmp_path / "list.csv").write_text(MANIFEST + twice)
    with pytest.raises(DataError, match=r"2 rows for .*a, and neither .*'true'"):
        evaluate_folders(*folders, manifest=tmp_path / "list.csv")
    true_dir = folders[0].rename(tmp_path / "test")
    evaluation = evaluate_folders(true_dir, folders[1], manifest=tmp_path / "list.csv")
    assert evaluation.rows[0].modality == "phase"


@pytest.mark.parametrize("has_images", [False, True])
def test_a_stem_in_two_splits_goes_by_its_file_as_in_open_dataset(folders, tmp_path, has_images):
    dataset = tmp_path / "test"
    dataset.mkdir()
    folders[0].rename(dataset / "labels")
    rows = ["a,images/a.png,one,right", "a,elsewhere/images/a.png,test,wrong"]
    if has_images:
        for stem in "abc":
            write(dataset / "images" / f"{stem}.png", cells())
        rows.append("a,images/a.tif,two,wrong")
    (tmp_path / "list.csv").write_text("\n".join(["stem,file,split,source", *rows]))
    evaluation = evaluate_folders(dataset, folders[1], manifest=tmp_path / "list.csv")
    assert evaluation.rows[0].source == "right"
    if has_images:
        assert open_dataset(dataset, tmp_path / "list.csv")[0].source == "right"


def test_true_labels_may_have_large_letters(folders):
    (folders[0] / "a_label.tiff").rename(folders[0] / "a_label.TIF")
    assert f1_by_stem(evaluate_folders(*folders))["a"] == 1


def test_nothing_to_compare_is_an_error(folders, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no true labels"):
        evaluate_folders(empty, folders[1])
    write(empty / "other_label.tiff", cells())
    with pytest.raises(DataError, match=r"any of the 3 images .* a_label.tiff; it holds other_label.tiff"):
        evaluate_folders(folders[0], empty)
    with pytest.raises(DataError, match="is not a folder"):
        evaluate_folders(folders[0], tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nowhere.csv"):
        evaluate_folders(*folders, manifest=tmp_path / "nowhere.csv")
    write(folders[0] / "a_label.png", cells())
    with pytest.raises(DataError, match="of the same image"):
        evaluate_folders(*folders)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared multi-modality data set is not on this machine")
def test_true_labels_score_one_against_themselves(tmp_path):
    for file in (DATA / "test" / "labels").iterdir():
        write(tmp_path / file.name, np.maximum(tifffile.imread(file), 0))
    evaluation = evaluate_folders(DATA / "test", tmp_path)
    assert evaluation.failures == ()
    assert evaluation.unscorable == ("dsb2018_0540", "dsb2018_0550")
    assert {row.scores.f1 for row in evaluation.rows if row.scores.scorable} == {(1.0,) * 5}
    assert len({row.experiment for row in evaluation.rows if row.seen is False}) == 18
    headlines = {headline.name: headline.f1_50 for headline in summarise(evaluation).headlines}
    assert headlines == {"all": 1, "seen": 1, "unseen": 1}


def test_the_image_itself_is_no_prediction(folders):
    """Where outputs lie beside the images, and one of them is missing."""
    folder = folders[0].parent / "data"
    for stem in "abc":
        write(folder / "labels" / f"{stem}_label.tiff", cells())
        write(folder / "images" / f"{stem}.png", cells())
    write(folder / "images" / "a_label.tiff", cells())
    evaluation = evaluate_folders(folder, folder / "images")
    assert f1_by_stem(evaluation) == {"a": 1, "b": 0, "c": 0}
    assert [failure.stem for failure in evaluation.failures] == ["b", "c"]
    assert all("No prediction" in failure.message for failure in evaluation.failures)


def test_labels_that_are_a_link_to_nothing_are_a_failure(folders):
    (folders[0] / "b_label.tiff").unlink()
    (folders[0] / "b_label.tiff").symlink_to(folders[0] / "not fetched")
    evaluation = evaluate_folders(*folders)
    assert [row.stem for row in evaluation.rows] == ["a", "c"]
    assert [failure.stem for failure in evaluation.failures] == ["b"]


def test_names_that_are_no_text_are_scored(folders, tmp_path):
    odd = "caf\udce9_label.tiff"
    try:
        (folders[0] / "c_label.tiff").rename(folders[0] / odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    (folders[1] / "c_label.tiff").rename(folders[1] / odd)
    evaluation = evaluate_folders(*folders)
    assert summarise(evaluation).groups[0].n_images == 3
    save_rows(evaluation, tmp_path / "rows.csv")
    assert [row["stem"] for row in read_table(tmp_path / "rows.csv")] == [row.stem for row in evaluation.rows]
