"""Plans: from a TOML file to runs, each with a key that changes with whatever decides its outcome."""

from dataclasses import replace
from pathlib import Path

import pytest

from fewcell.benchmark import load_plan, runs_of
from fewcell.benchmark.plan import samples_of
from fewcell.errors import ConfigError
from fewcell.representations import make_representation

PLAN = """
data = "train"
[recipe]
minutes = 20
crop_px = 128
[[compare]]
representation = ["boundary", {name = "boundary", settings = {grow_px = 2}}]
labels = [4, "all"]
seed = [0, 1]
"""


def keys(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "plan.toml").write_text(text)
    return [run.key for run in runs_of(load_plan(tmp_path / "plan.toml"))]


def test_a_block_is_every_combination_of_its_lists(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    runs = runs_of(load_plan(tmp_path / "plan.toml"))
    assert len(runs) == len({run.key for run in runs}) == 8
    assert {run.labels for run in runs} == {4, None}
    assert {run.recipe.seed for run in runs} == {0, 1}
    assert all(run.recipe.minutes == 20 and run.recipe.crop_px == 128 for run in runs)
    assert [run.recipe.representation.settings for run in runs] == 4 * [{}] + 4 * [{"grow_px": 2}]
    assert runs[0].plan.data == tmp_path / "train"
    assert runs[0].name == "resunet_boundary_supervised_4-labels_seed0_20min"
    assert "boundary-2" in runs[-1].name


def test_the_same_run_in_two_blocks_is_made_once(tmp_path: Path) -> None:
    once = keys(tmp_path, PLAN)
    both = keys(tmp_path, PLAN + '[[compare]]\nrepresentation = ["boundary"]\nseed = [0, 2]\n')
    assert both[:8] == once
    assert len(both) == 9


def test_a_block_may_have_its_own_budget(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN + "[[compare]]\nrecipe = {minutes = 60}\n")
    assert [run.recipe.minutes for run in runs_of(load_plan(tmp_path / "plan.toml"))] == 8 * [20] + [60]


def test_a_run_that_goes_on_from_another_has_it_made_first(tmp_path: Path) -> None:
    going_on = '[[compare]]\nrepresentation = ["boundary"]\nlabels = [4]\nobjective = ["supervised", "consensus"]\n'
    going_on += 'after = "supervised"\n'
    (tmp_path / "plan.toml").write_text(PLAN.replace("[[compare]]", going_on + "[[compare]]"))
    first, longer, consensus, *others = runs_of(load_plan(tmp_path / "plan.toml"))
    assert longer.before == consensus.before == first
    assert (first.recipe.objective.name, consensus.recipe.objective.name) == ("supervised", "consensus")
    assert consensus.name == "resunet_boundary_consensus_4-labels_seed0_20min_after_supervised"
    assert [run.before for run in others] == 7 * [None]  # the eighth of the other block is the first of all
    with pytest.raises(ConfigError, match="not both"):
        keys(
            tmp_path,
            PLAN.replace("minutes = 20", 'minutes = 20\nstart = "default"') + '[[compare]]\nafter = "supervised"\n',
        )
    from_the_same = replace(longer, before=replace(first, labels=5))
    assert len({longer.key, from_the_same.key, replace(longer, before=None).key}) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("minutes = 20", "minutes = 21"),
        ('"train"', '"other"'),
        ("[recipe]", "test_share = 0.3\n[recipe]"),
        ("[recipe]", "processes = 2\n[recipe]"),
        ("[recipe]", "test_sources = ['a']\n[recipe]"),
    ],
)
def test_the_key_changes_with_what_decides_the_outcome(tmp_path: Path, old: str, new: str) -> None:
    assert set(keys(tmp_path, PLAN)).isdisjoint(keys(tmp_path, PLAN.replace(old, new)))


def test_the_plans_of_the_project_are_right() -> None:
    plans = sorted((Path(__file__).parents[2] / "plans").glob("*.toml"))
    assert plans
    for path in plans:
        for run in runs_of(load_plan(path)):
            make_representation(run.recipe.representation.name, run.recipe.representation.settings)


def test_runs_that_are_only_scored_differently_share_their_training(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN + 'diameter = ["true", "estimated"]\n')
    runs = runs_of(load_plan(tmp_path / "plan.toml"))
    assert len(runs) == 16
    assert len({run.training for run in runs}) == 8
    assert {run.diameter for run in runs} == {"true", "estimated"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data = 'x'", r"compare: Field required"),
        ("data = 'x'\ncompare = []", "compare"),
        ("data = 'x'\nspeed = 3\n[[compare]]", "speed: Extra inputs"),
        ("data = 'x'\n[[compare]]\nlabels = ['some']", "labels"),
        ("data = 'x'\n[[compare]]\nlabels = [1]", "greater than or equal to 2"),
        ("data = 'x'\n[[compare]]\nseed = []", "at least 1 item"),
        ("data = 'x'\ntest = 'y'\ntest_sources = ['z']\n[[compare]]", "give what is to be scored once"),
        ("data = ", "no valid TOML"),
    ],
)
def test_a_wrong_plan_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        keys(tmp_path, text)


def test_a_plan_that_is_missing_or_has_no_budget(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plan(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="either steps or minutes"):
        keys(tmp_path, "data = 'x'\n[[compare]]")


def test_a_budget_is_part_of_a_larger_one_and_the_test_images_are_the_same(tmp_path: Path, disc_dataset: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        f"data = '{disc_dataset}'\ntest_share = 0.3\nrecipe = {{minutes = 1}}\n[[compare]]\nlabels = [2, 5, 'all']"
    )
    learn, test = zip(*(samples_of(run) for run in runs_of(load_plan(tmp_path / "plan.toml"))), strict=True)
    labelled = [{s.stem for s in samples if s.labels} for samples in learn]
    assert [len(stems) for stems in labelled[:2]] == [2, 5]
    assert labelled[0] < labelled[1] < labelled[2]
    assert len({len(samples) for samples in learn}) == 1, "the others stay, without labels"
    assert test[0] == test[1] == test[2]
    assert {s.experiment for s in test[0]}.isdisjoint(s.experiment for s in learn[0])
    (tmp_path / "plan.toml").write_text(
        f"data = '{disc_dataset}'\nrecipe = {{minutes = 1}}\n[[compare]]\nlabels = [1000]"
    )
    with pytest.raises(ConfigError, match="asks for 1000 labelled images; there are"):
        samples_of(runs_of(load_plan(tmp_path / "plan.toml"))[0])


def test_whole_sources_are_set_aside_in_the_pool_too(tmp_path: Path, disc_dataset: Path) -> None:
    files = sorted((disc_dataset / "images").iterdir())
    rows = [f"{file.stem},{'ab'[i % 2]},fluorescence,{file.stem}" for i, file in enumerate(files)]
    for name in ("data", "pool"):
        (tmp_path / name).mkdir()
        for part in ("images", "labels") if name == "data" else ("images",):
            (tmp_path / name / part).symlink_to(disc_dataset / part)
        (tmp_path / name / "manifest.csv").write_text("\n".join(["stem,source,modality,experiment", *rows]))
    plan = "data = 'data'\npool = ['pool']\ntest_sources = ['b']\nrecipe = {minutes = 1}\n[[compare]]"
    (tmp_path / "plan.toml").write_text(plan)
    learn, test = samples_of(runs_of(load_plan(tmp_path / "plan.toml"))[0])
    assert {s.source for s in learn} == {"a"}
    assert {s.source for s in test} == {"b"}
    assert len(test) == len(files) // 2
    assert sum(s.labels is None for s in learn) == sum(s.labels is not None for s in learn)
    (tmp_path / "plan.toml").write_text(plan.replace("'b'", "'c'"))
    with pytest.raises(ConfigError, match="No labelled image is of the source 'c'; there are a, b"):
        samples_of(runs_of(load_plan(tmp_path / "plan.toml"))[0])
