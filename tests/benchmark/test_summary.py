import csv
import io

import numpy as np
import pytest
from rich.console import Console

from fewcell.benchmark import (
    HEADLINE_MODALITIES,
    Evaluation,
    Failure,
    Row,
    render,
    save_rows,
    save_summary,
    summarise,
)
from fewcell.errors import ConfigError, WriteError
from fewcell.metrics import score_image


def row(stem, n_found, modality="phase", experiment="e1", seen=None, n_true=10, problem=""):
    """An image with 10 true cells, n_found of them found and nothing else: F1 = 2 n / (10 + n)."""
    true = np.zeros((9, 5 + 4 * n_true), np.int32)
    for cell in range(n_true):
        true[3:6, 3 + 4 * cell : 6 + 4 * cell] = cell + 1
    scores = score_image(true, np.where(true <= n_found, true, 0))
    return Row(stem, "lab " + modality, modality, "nuclei", experiment, seen, scores, problem)


def f1(n_found):
    return 2 * n_found / (10 + n_found)


def evaluation(*rows, failures=()):
    return Evaluation(tuple(rows), tuple(failures), None)


def group(summary, grouping, name):
    (found,) = [g for g in summary.groups if (g.grouping, g.name) == (grouping, name)]
    return found


FOUR = [row(m, n, m, experiment=m) for m, n in zip(HEADLINE_MODALITIES, (10, 8, 6, 0), strict=True)]


def test_means_and_medians_are_over_images():
    summary = summarise(evaluation(row("a", 10), row("b", 10), row("c", 2), row("d", 0, modality="smear")))
    phase = group(summary, "modality", "phase")
    assert (phase.n_images, phase.n_experiments) == (3, 1)
    assert phase.means["f1_50"] == pytest.approx((1 + 1 + f1(2)) / 3)
    assert phase.means["ap_50"] == pytest.approx((1 + 1 + 2 / 10) / 3)
    assert phase.means["pq"] == pytest.approx(phase.means["f1_90"]) == pytest.approx(phase.means["f1_50"])
    assert phase.means["aji"] == pytest.approx(phase.means["ap_50"])
    assert phase.median_f1_50 == 1
    assert group(summary, "all", "all").means["f1_50"] == pytest.approx((2 + f1(2)) / 4)
    assert group(summary, "source", "lab smear").n_images == 1


def test_headline_weighs_four_modalities_alike():
    many = [row(f"more{i}", 0, "fluorescence", "fluorescence") for i in range(3)]
    (headline,) = summarise(evaluation(*FOUR, *many, row("s", 10, "smear"))).headlines
    assert headline.name == "all"
    assert headline.f1_50 == pytest.approx((1 / 4 + f1(8) + f1(6) + 0) / 4)


def test_no_headline_over_fewer_modalities():
    (headline,) = summarise(evaluation(*FOUR[:3])).headlines
    assert (headline.f1_50, headline.interval, headline.missing) == (None, None, ("phase",))
    assert summarise(evaluation()).headlines[0].missing == HEADLINE_MODALITIES


def test_seen_and_unseen_stand_apart():
    rows = [row("a", 10, seen=True), row("b", 5, seen=False), row("c", 0, "smear", seen=False), row("d", 1)]
    summary = summarise(evaluation(*rows))
    assert group(summary, "seen or unseen", "seen").means["f1_50"] == 1
    assert group(summary, "seen or unseen", "unseen").means["f1_50"] == pytest.approx(f1(5) / 2)
    assert group(summary, "modality, seen or unseen", "phase, unseen").means["f1_50"] == pytest.approx(f1(5))
    assert group(summary, "source, seen or unseen", "lab phase, seen").means["f1_50"] == 1
    assert group(summary, "source, seen or unseen", "lab phase, unseen").means["f1_50"] == pytest.approx(f1(5))
    assert group(summary, "modality", "phase").n_images == 3
    assert [headline.name for headline in summary.headlines] == ["all", "seen", "unseen"]


def test_interval_comes_from_resampling_experiments():
    # Two experiments, one with three images: draws give the mean of one, of the other, or of all four images.
    rows = [row(f"a{i}", 10, experiment="a") for i in range(3)] + [row("b", 0, experiment="b")]
    interval = group(summarise(evaluation(*rows)), "modality", "phase").interval
    assert (interval.low, interval.high, interval.over) == (0, 1, "experiments")


def test_interval_equals_a_plain_bootstrap():
    rng = np.random.default_rng(1)
    found = {f"e{e}": rng.integers(0, 11, rng.integers(1, 6)) for e in range(20)}
    rows = [row(f"{e}_{i}", n, experiment=e) for e, ns in found.items() for i, n in enumerate(ns)]
    interval = group(summarise(evaluation(*rows)), "modality", "phase").interval
    names = list(found)
    means = []
    for _ in range(4000):
        drawn = rng.choice(names, len(names))
        means.append(np.mean([f1(n) for e in drawn for n in found[e]]))
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.015)


def test_a_single_experiment_is_resampled_by_image_and_marked():
    rows = [row(f"i{i}", n) for i, n in enumerate((0, 5, 10, 10))]
    interval = group(summarise(evaluation(*rows)), "modality", "phase").interval
    assert interval.over == "images"
    assert interval.low < np.mean([f1(n) for n in (0, 5, 10, 10)]) < interval.high
    assert group(summarise(evaluation(rows[0])), "modality", "phase").interval is None


def test_headline_interval_says_if_images_were_resampled():
    twins = [row(r.stem + "2", 5, r.modality, r.experiment) for r in FOUR]
    (headline,) = summarise(evaluation(*FOUR, *twins)).headlines
    assert headline.interval.over == "images"
    assert headline.interval.low < headline.f1_50 < headline.interval.high
    others = [row(r.stem + "2", 5, r.modality, r.experiment + "2") for r in FOUR]
    assert summarise(evaluation(*FOUR, *others)).headlines[0].interval.over == "experiments"
    assert summarise(evaluation(*FOUR)).headlines[0].interval is None


def test_intervals_depend_on_the_seed_and_the_group_alone():
    rng = np.random.default_rng(0)
    rows = [row(f"i{i}", rng.integers(0, 11), experiment=f"e{i}") for i in range(12)]
    alone = group(summarise(evaluation(*rows)), "modality", "phase").interval
    among = group(summarise(evaluation(*FOUR[:3], *rows)), "modality", "phase").interval
    assert alone == among
    assert alone != group(summarise(evaluation(*rows), seed=1), "modality", "phase").interval


def test_modalities_are_resampled_independently():
    found = (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)
    rows = [row(f"{modality}{n}", n, modality, f"{modality}{n}") for modality in HEADLINE_MODALITIES for n in found]
    summary = summarise(evaluation(*rows))
    of_one = group(summary, "modality", "phase").interval
    of_four = summary.headlines[0].interval
    # The mean of four independent means varies half as much as one of them.
    assert of_four.high - of_four.low == pytest.approx((of_one.high - of_one.low) / 2, rel=0.15)


def shown(*rows, failures=()):
    whole = evaluation(*rows, failures=failures)
    console = Console(file=io.StringIO(), width=200)
    console.print(render(summarise(whole), whole))
    return console.file.getvalue()


def test_what_people_read():
    text = shown(
        *FOUR,
        row("[x]", 5, "smear", "[plate 1]"),
        row("cut", 0, n_true=0),
        failures=[Failure("[y]", "no [z]")],
    )
    headline = np.mean([f1(n) for n in (10, 8, 6, 0)])
    assert f"phase (all): {headline:.3f} (no interval" in text
    assert "Of 50 true cells at IoU 0.5: missed 21, split 0, merged 0, badly outlined 0." in text
    assert "Of 29 found: false 0." in text
    assert "Not scorable" in text
    assert "none: cut" in text
    assert "1 failed" in text
    assert "[y]: no [z]" in text
    assert "smear" in text
    assert "seen" not in text


def test_what_people_read_marks_weak_intervals():
    assert "resampled, which says nothing" not in shown(*FOUR)
    text = shown(row("a", 3), row("b", 8))
    assert "*" in text
    assert "resampled, which says nothing" in text
    assert "no scorable image of fluorescence, histology, brightfield" in text


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_saved_rows_hold_scores_and_provenance(tmp_path):
    path = tmp_path / "results" / "rows.csv"
    rows = [row("a", 5, seen=True), row("b", 0, seen=False, problem="No prediction"), row("c", 0, n_true=0)]
    save_rows(evaluation(*rows), path, extra={"commit": "abc", "seed": 3})
    a, b, c = read(path)
    assert (a["stem"], a["seen"], a["scorable"], a["commit"], a["seed"]) == ("a", "seen", "yes", "abc", "3")
    assert float(a["f1_50"]) == pytest.approx(f1(5), abs=1e-6)
    assert (a["n_true"], a["true_positives"], a["n_predicted"]) == ("10", "5", "5")
    assert (b["seen"], b["problem"], b["f1_50"]) == ("unseen", "No prediction", "0.0")
    assert (c["seen"], c["scorable"]) == ("", "no")


def test_saved_summary_holds_headlines_and_groups(tmp_path):
    path = tmp_path / "summary.csv"
    summary = summarise(evaluation(*FOUR, row("p2", 4, experiment="e2")))
    save_summary(summary, path, extra={"model": "m"})
    lines = {(line["grouping"], line["name"]): line for line in read(path)}
    assert len(lines) == len(summary.headlines) + len(summary.groups)
    assert float(lines["headline", "all"]["f1_50"]) == pytest.approx(summary.headlines[0].f1_50, abs=1e-6)
    phase = lines["modality", "phase"]
    assert (phase["n_images"], phase["resampled"], phase["model"]) == ("2", "experiments", "m")
    assert float(phase["f1_50_high"]) == pytest.approx(f1(4), abs=1e-6)
    assert lines["modality", "histology"]["f1_50_low"] == ""


def test_saving_overwrites_nothing_unasked(tmp_path):
    path = tmp_path / "rows.csv"
    save_rows(evaluation(row("a", 5)), path)
    with pytest.raises(WriteError):
        save_rows(evaluation(row("b", 5)), path)
    assert read(path)[0]["stem"] == "a"
    save_rows(evaluation(row("b", 5)), path, overwrite=True)
    assert read(path)[0]["stem"] == "b"
    with pytest.raises(ConfigError, match="'stem'"):
        save_rows(evaluation(row("b", 5)), tmp_path / "new.csv", extra={"stem": 1})
    assert not (tmp_path / "new.csv").exists()
