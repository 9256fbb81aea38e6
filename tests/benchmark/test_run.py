"""Running a plan: each run once, tables that hold all of them, and failures that stop no other."""

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from fewcell.benchmark import load_plan, run_plan, runs_of, stage
from fewcell.benchmark.examples import EXAMPLES, examples_file
from fewcell.benchmark.stage import FACTS_FILE, ROW_FILE
from fewcell.errors import WriteError
from fewcell.images import read_labels

PLAN = """
data = '{data}'
test_share = 0.3
[recipe]
steps = {steps}
batch = 4
crop_px = 64
learning_rate = 0.02
ema_decay = 0.9
held_out = 0.3
precision = "f32"
threads = 1
workers = 0
checkpoint_minutes = 0.02
network = {{name = "resunet", settings = {{widths = [8, 12], blocks = 1}}}}
augmentation = {{noise = 0, blur = 0, invert = 0, scale_jitter = 1.2}}
[[compare]]
network = [{{name = "resunet", settings = {{widths = [8, 12], blocks = 1}}}}]
representation = ["boundary"]
diameter = ["true", "none"]
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(disc_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A plan of one training and two scorings that was run: the plan, its folder, and what was reported."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "plan.toml").write_text(PLAN.format(data=disc_dataset, steps=120))
    lines: list[str] = []
    rows, failed = run_plan(folder / "plan.toml", folder / "out", report=lines.append)
    assert failed == []
    assert rows == folder / "out" / "rows.csv"
    return folder / "plan.toml", folder / "out", lines


def test_a_run_is_trained_once_and_scored_in_each_way(finished) -> None:
    plan, out, lines = finished
    assert [line.split()[3] for line in lines] == ["train", "score", "score"]
    true, none = rows_of(out / "rows.csv")
    assert [row["run"] for row in (true, none)] == [run.key for run in runs_of(load_plan(plan))]
    assert (true["diameter"], none["diameter"]) == ("true", "none")
    assert int(true["steps"]) == 120
    assert int(true["images_seen"]) == 480
    assert int(true["parameters"]) > 1000
    assert float(true["all_images_f1_50"]) > 0.7
    assert float(true["total_s_per_mpx"]) > float(true["network_s_per_mpx"]) > 0
    assert float(true["decode_s_per_mpx"]) > 0
    assert float(true["peak_memory_mb"]) > 50
    assert true["commit"]
    assert true["machine"]
    assert 0 <= float(true["calibration_error"]) <= 1


def test_what_is_said_of_scores_agrees_with_the_cells_found(finished) -> None:
    _, out, _ = finished
    true = rows_of(out / "rows.csv")[0]
    found = sum(int(row["found"]) for row in rows_of(out / "scores.csv") if row["run"] == true["run"])
    right = sum(int(row["right"]) for row in rows_of(out / "scores.csv") if row["run"] == true["run"])
    images = [row for row in rows_of(out / "images.csv") if row["run"] == true["run"]]
    assert found >= sum(int(row["n_predicted"]) for row in images)
    assert right >= sum(int(row["true_positives"]) for row in images)
    assert len([row for row in rows_of(out / "thresholds.csv") if row["run"] == true["run"]]) == 20


def test_the_row_of_a_run_follows_from_the_rows_of_its_images(finished) -> None:
    _, out, _ = finished
    true = rows_of(out / "rows.csv")[0]
    images = [row for row in rows_of(out / "images.csv") if row["run"] == true["run"]]
    assert len(images) == int(true["all_images"]) == 2
    assert float(true["all_images_f1_50"]) == pytest.approx(sum(float(r["f1_50"]) for r in images) / 2, abs=1e-5)
    assert {row["seen"] for row in images} == {"unseen"}
    cells = sum(int(row["n_true"]) for row in images)
    assert cells == int(true["true_cells"])
    wrong = sum(int(row[kind]) for row in images for kind in ("missed", "split", "merged", "badly_outlined"))
    assert cells - wrong == sum(int(row["true_positives"]) for row in images)
    for row in images:
        assert (out / "scores" / true["run"] / "labels" / f"{row['stem']}_label.tiff").exists()
    for example in EXAMPLES:
        labels = read_labels(examples_file(out / "scores" / true["run"], example))
        assert labels.shape == example.pixels().shape[1:]


def test_a_run_that_goes_on_from_another_counts_what_that_has_learned(disc_dataset: Path, tmp_path: Path) -> None:
    plan = PLAN.format(data=disc_dataset, steps=12).replace('["true", "none"]', '["true"]\nafter = "supervised"')
    (tmp_path / "plan.toml").write_text(plan)
    path, failed = run_plan(tmp_path / "plan.toml", tmp_path / "out")
    assert failed == []
    first, longer = rows_of(path)
    assert (first["steps"], longer["steps"], longer["images_seen"]) == ("12", "24", "96")
    assert float(longer["trained_minutes"]) > float(first["trained_minutes"])
    ends = [
        max(int(row["step"]) for row in rows_of(tmp_path / "out" / "curves.csv") if row["run"] in run["run"])
        for run in (first, longer)
    ]
    assert ends == [12, 24]


def test_the_learning_curve_is_kept(finished) -> None:
    _, out, _ = finished
    curve = rows_of(out / "curves.csv")
    assert len({row["run"] for row in curve}) == 1
    steps = [int(row["step"]) for row in curve]
    assert steps == sorted(set(steps))
    assert steps[-1] == 120
    assert float(curve[-1]["held_out_f1"]) > 0.8
    assert all(float(row["held_out_loss"]) > 0 for row in curve)


def test_what_is_finished_is_not_made_again(finished, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "models").rglob("*")}
    scored = sorted((out / "scores").glob(f"*/{ROW_FILE}"))
    scored[0].unlink()
    lines: list[str] = []
    run_plan(plan, out, report=lines.append)
    assert [line.split()[3] for line in lines] == ["score"]
    assert {path: path.stat().st_mtime_ns for path in (out / "models").rglob("*")} == before
    assert len(rows_of(out / "rows.csv")) == 2


def test_a_run_that_fails_stops_no_other_and_says_why(finished, tmp_path: Path, disc_dataset: Path) -> None:
    plan, out, _ = finished
    (tmp_path / "plan.toml").write_text(
        plan.read_text().replace("[[compare]]", "[[compare]]\nlabels = [6]\nrecipe = {crop_px = 65}\n[[compare]]")
    )
    rows, failed = run_plan(tmp_path / "plan.toml", out)
    assert len(failed) == 1
    assert failed[0].stage == "train"
    assert "crop_px must be a multiple of" in failed[0].message
    log = Path(failed[0].message.rpartition(": ")[2].removesuffix(")"))
    assert log.is_relative_to(out)
    assert "crop_px must be a multiple of" in log.read_text()
    assert len(rows_of(rows)) == 2, "those that were finished before"


def test_what_goes_on_from_a_run_that_failed_says_so(tmp_path: Path, disc_dataset: Path) -> None:
    text = f'data = "{disc_dataset}"\n[recipe]\nsteps = 1\ncrop_px = 65\n[[compare]]\nafter = "supervised"\n'
    (tmp_path / "plan.toml").write_text(text)
    lines: list[str] = []
    _, failed = run_plan(tmp_path / "plan.toml", tmp_path / "out", report=lines.append)
    assert len(failed) == 2
    assert failed[0].key in failed[1].message
    assert lines[-1].endswith(f"It goes on from {failed[0].key}, which failed.")


def test_a_folder_in_which_a_benchmark_is_at_work_is_left_alone(tmp_path: Path, disc_dataset: Path) -> None:
    (tmp_path / "plan.toml").write_text(f'data = "{disc_dataset}"\n[recipe]\nsteps = 1\n[[compare]]\nlabels = [99]\n')
    seen: list[str] = []

    def again(line: str) -> None:
        with pytest.raises(WriteError, match="another benchmark is at work there"):
            run_plan(tmp_path / "plan.toml", tmp_path / "out")
        seen.append(line)

    run_plan(tmp_path / "plan.toml", tmp_path / "out", report=again)
    assert seen


def test_a_run_that_fails_before_anything_is_written_is_told_as_well(tmp_path: Path, disc_dataset: Path) -> None:
    (tmp_path / "plan.toml").write_text(f'data = "{disc_dataset}"\n[recipe]\nsteps = 1\n[[compare]]\nlabels = [99]\n')
    lines: list[str] = []
    _, failed = run_plan(tmp_path / "plan.toml", tmp_path / "out", report=lines.append)
    assert "99 labelled images" in failed[0].message
    assert "99 labelled images" in lines[-1]


def test_the_facts_of_a_training_name_its_experiments(finished) -> None:
    _, out, _ = finished
    (facts,) = (json.loads(path.read_text()) for path in (out / "models").glob(f"*/{FACTS_FILE}"))
    assert facts["labelled_images"] == 6
    assert len(facts["experiments"]) == 6


def test_what_a_block_changes_of_the_recipe_tells_its_runs_apart(disc_dataset: Path, tmp_path, monkeypatch) -> None:
    """Two trainings that differ in nothing else are two methods in the tables; how much is held out is none."""
    blocks = (
        "[[compare]]\nrecipe = {augmentation = {off_scale = 1.0}}",
        "[[compare]]\nrecipe = {held_out = 0.2}\nlabels = [4]",
    )
    (tmp_path / "plan.toml").write_text("\n".join([PLAN.format(data=disc_dataset, steps=1), *blocks]))
    monkeypatch.setattr(stage, "spent", lambda _: (1, 1.0))
    facts = {"labelled_images": 4, "parameters": 1, "commit": "abc", "machine": "m"}
    runs = runs_of(load_plan(tmp_path / "plan.toml"))
    plain, _, apart, fewer = (stage._run_columns(run, facts, tmp_path)["settings"] for run in runs)
    assert json.loads(str(apart)) == {"recipe": {"augmentation": {"off_scale": 1.0}}} | json.loads(str(fewer) or "{}")
    assert apart != plain
    assert "held_out" not in str(fewer)
