"""Put the figures of the model inside the package into docs/model-card.md, between its two markers.

They come from docs/results/default-model-test-summary.csv (see scripts/score_default_model), from oracle.csv,
calibration.csv, folder.csv, slide.csv, precision.csv and optics.csv there (each names its command), from
default-model-training.csv (see scripts/training_log.py), and from model.json. The learning curve is drawn as well,
which needs the extra `report`: docs/learning_curve.svg.
"""

import csv
import json
from hashlib import sha256
from pathlib import Path
from statistics import mean, median

from fewcell.benchmark.summary import HEADLINE_MODALITIES

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "src/fewcell/models/default/model.json"
BEGIN, END = "<!-- figures: begin (scripts/model_card.py) -->", "<!-- figures: end -->"
HEADINGS = {
    "all": "All images of the open test",
    "seen or unseen": "Experiments that training saw, and never saw",
    "modality": "Per modality, open test",
    "modality, seen or unseen": "Per modality, experiments that training saw and never saw",
    "source": "Per source, open test",
}


def main() -> None:
    card = ROOT / "docs" / "model-card.md"
    text = card.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    card.write_text(f"{before}{BEGIN}\n{figures()}\n{END}{after}", encoding="utf-8")


def figures() -> str:
    facts = json.loads(MODEL.read_text(encoding="utf-8"))
    return "\n\n".join(
        [
            *open_test(),
            how_new(facts),
            mistakes(),
            *peers(),
            *ceiling(),
            calibration(),
            cost(),
            precisions(),
            optics(),
            curve(),
            held_out(facts),
            sources(facts),
        ]
    )


def open_test() -> list[str]:
    path = ROOT / "docs/results/default-model-test-summary.csv"
    if not path.exists():
        return ["The open test has not been scored with this model yet."]
    rows = rows_of(path.name)
    parts = [headlines([row for row in rows if row["grouping"] == "headline"])]
    for grouping, heading in HEADINGS.items():
        parts.append(f"### {heading}\n\n{table([row for row in rows if row['grouping'] == grouping])}")
    return parts


def how_new(facts: dict) -> str:
    """F1 of experiments that training saw, of others of a source that it saw, and of sources that it never saw."""
    learned = {name for name, of in facts["trained_on"].items() if of["images"]}
    rows = [row for row in rows_of("default-model-test.csv") if row["scorable"] == "yes"]
    groups = {
        "an experiment that training saw": [row for row in rows if row["seen"] == "seen"],
        "a new experiment of a known source": [r for r in rows if r["seen"] == "unseen" and r["source"] in learned],
        "a new source": [r for r in rows if r["seen"] == "unseen" and r["source"] not in learned],
    }
    lines = [
        "### How new an image is\n",
        "Unseen experiments, parted by whether training saw other images of the same source.\n",
        "| the image is of | images | sources | mean F1@0.5 | median |",
        "|---|---|---|---|---|",
    ]
    for name, its in groups.items():
        values, known = [float(row["f1_50"]) for row in its], ", ".join(sorted({row["source"] for row in its}))
        lines.append(f"| {name} | {len(its)} | {known} | {mean(values):.3f} | {median(values):.3f} |")
    return "\n".join(lines)


def headlines(rows: list[dict[str, str]]) -> str:
    lines = [
        "### Headline\n",
        "Mean over fluorescence, histology, brightfield and phase of the mean F1 at IoU 0.5 of each (the macro F1); in",
        "brackets the 95 % interval from resampling experiments (*: images, where a modality has a single experiment).",
        "With estimated diameters, as everything down to the mistakes."
        + whose("default-model-test.csv", "default-model-test-summary.csv")
        + "\n",
    ]
    for row in rows:
        if row["f1_50"]:
            interval = f" ({interval_of(row)})" if row["f1_50_low"] else ""
            lines.append(f"- {row['name']}: **{number(row['f1_50'])}**{interval}")
        else:
            lines.append(f"- {row['name']}: none, for it has no scorable image of {row['missing'].replace(' ', ', ')}")
    return "\n".join(lines)


def table(rows: list[dict[str, str]]) -> str:
    columns = {
        "": "name",
        "images": "n_images",
        "experiments": "n_experiments",
        "mean F1@0.5": "f1_50",
        "95 %": None,
        "median": "median_f1_50",
        "@0.6": "f1_60",
        "@0.7": "f1_70",
        "@0.8": "f1_80",
        "@0.9": "f1_90",
        "AP@0.5": "ap_50",
        "PQ": "pq",
        "AJI": "aji",
    }
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        interval = interval_of(row) if row["f1_50_low"] else "-"
        cells = [interval if key is None else shown(key, row[key]) for key in columns.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def interval_of(row: dict[str, str]) -> str:
    return f"{number(row['f1_50_low'])} to {number(row['f1_50_high'])}{'*' if row['resampled'] == 'images' else ''}"


def mistakes() -> str:
    rows = rows_of("default-model-test.csv")
    kinds = ("missed", "split", "merged", "badly_outlined")
    lines = [
        "### Mistakes by kind, open test\n",
        "Of the true cells, per cent, pooled over images (each wrong cell is wrong in one way; see `Mistakes` in",
        "`fewcell.metrics`), and the per cent of what was found that lies where no cell is.\n",
        "| | true cells | right | missed | split | merged | badly outlined | found | false |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for modality in ["all", *sorted({row["modality"] for row in rows})]:
        those = [row for row in rows if modality in ("all", row["modality"])]
        total = {name: sum(int(row[name]) for row in those) for name in (*kinds, "n_true", "n_predicted", "false")}
        wrong = [100 * total[kind] / max(total["n_true"], 1) for kind in kinds]
        cells = [total["n_true"], *(f"{share:.1f}" for share in (100 - sum(wrong), *wrong)), total["n_predicted"]]
        cells.append(f"{100 * total['false'] / max(total['n_predicted'], 1):.1f}")
        lines.append(f"| {' | '.join(map(str, [modality, *cells]))} |")
    return "\n".join(lines)


def ceiling() -> list[str]:
    """How much better the cells would be, were the right candidates chosen."""
    if not (ROOT / "docs/results/oracle.csv").exists():
        return []
    rows = rows_of("oracle.csv")
    modalities = sorted({row["modality"] for row in rows})
    lines = [
        "### Upper bound: oracle choice of candidates, open test\n",
        "Mean F1 at the true diameter if a scorer (fitted anew as in training) chooses among canopy's candidates, and",
        "if the truth does (the oracle): the difference is the scorer's to gain, the rest the network's",
        "([results/oracle.csv](results/oracle.csv))." + whose("oracle.csv") + "\n",
        f"| chosen by | at | all | {' | '.join(modalities)} |",
        "|---|---|---|" + "---|" * len(modalities),
    ]
    for way, name in (("canopy", "the scorer"), ("oracle", "the truth (IoU 0.5)")):
        for key, iou in (("f1_50", "0.5"), ("f1_75", "0.75")):
            values = [(row["modality"], float(row[key])) for row in rows if row["way"] == way]
            of_each = [mean(value for modality, value in values if modality == one) for one in modalities]
            cells = [f"{value:.3f}" for value in (mean(value for _, value in values), *of_each)]
            lines.append(f"| {name} | {iou} | {' | '.join(cells)} |")
    return ["\n".join(lines)]


def peers() -> list[str]:
    """Other packages that learned from the same images; see benchmarks/peers/README.md."""
    if not (ROOT / "docs/results/peers.csv").exists():
        return []
    modalities = (*HEADLINE_MODALITIES, "ihc", "smear")
    of_test = {row["name"]: float(row["f1_50"]) for row in rows_of("default-model-test-summary.csv") if row["f1_50"]}
    given = {
        name: mean(float(row["f1_50_given"]) for row in rows_of("scale.csv") if row["modality"] == name)
        for name in modalities
    }
    ends = {row["part"]: row for row in rows_of("default-model-training.csv")}.values()  # the last row of each part
    ours = {
        "method": "fewcell",
        "minutes": sum(float(row["minutes"]) for row in ends),
        "steps": sum(int(row["step"]) for row in ends),
        "mpx_per_s": "",
    }
    rows = [
        *(
            {**ours, "diameter": diameter, "headline": mean(scores[name] for name in HEADLINE_MODALITIES)}
            | {f"f1_50_{name}": scores[name] for name in modalities}
            for diameter, scores in (("given", given), ("estimated", of_test))
        ),
        *(
            row | {"method": f"{row['method']} {row['version']}", "minutes": float(row["train_s"]) / 60}
            for row in sorted(rows_of("peers.csv"), key=lambda row: -float(row["headline"]))
        ),
    ]
    lines = [
        "### Other packages, trained on the same images\n",
        "Trained from scratch by their own code on the labelled images of train, with 2 cores, and scored on the open",
        "test: mean F1 at IoU 0.5. Megapixels a second are from pixels to labels, without reading and writing",
        "([results/peers.csv](results/peers.csv), [how](../benchmarks/peers/README.md)); those of fewcell, with both,",
        "stand under *Time and memory*. Diameter *none*: images stay at their own scale. A step is a batch of 8",
        "crops, of StarDist 4; after few of them a network may have far to go. Immunostains (4 images) and smears (15,",
        "of one cell each) are too few for the headline." + whose("scale.csv", "default-model-test.csv") + "\n",
        f"| method | diameter | training, min | steps | headline | {' | '.join(modalities)} | megapixels a second |",
        "|---|---|---|---|---|" + "---|" * (len(modalities) + 1),
    ]
    for row in rows:
        scores = (f"{float(row[name]):.3f}" for name in ("headline", *(f"f1_50_{its}" for its in modalities)))
        speed = f"{float(row['mpx_per_s']):.2f}" if row["mpx_per_s"] else ""
        start = (row["method"], row["diameter"], f"{float(row['minutes']):.0f}", f"{float(row['steps']):,.0f}")
        lines.append(f"| {' | '.join([*start, *scores, speed])} |")
    return ["\n".join(lines)]


def calibration() -> str:
    rows = rows_of("calibration.csv")
    lines = [
        "### Calibration\n",
        "Expected calibration error of the scores: |precision - mean score|, averaged over 20 bins of scores, weighted",
        "by cells ([results/calibration.csv](results/calibration.csv))." + whose("calibration.csv") + "\n",
        "| diameter | experiments | cells | error |",
        "|---|---|---|---|",
    ]
    for diameter, images in dict.fromkeys((row["diameter"], row["images"]) for row in rows):
        those = [row for row in rows if (row["diameter"], row["images"]) == (diameter, images) and int(row["found"])]
        found = sum(int(row["found"]) for row in those)
        error = sum(abs(int(row["right"]) - int(row["found"]) * float(row["mean_score"])) for row in those) / found
        lines.append(f"| {diameter} | {images} | {found} | {error:.3f} |")
    return "\n".join(lines)


def cost() -> str:
    folder, slide = rows_of("folder.csv"), rows_of("slide.csv")
    lines = [
        "### Time and memory\n",
        "A megapixel is one of the image. Folders of 100 images of 1 megapixel, the whole command",
        "([results/folder.csv](results/folder.csv)); slides with cells 24 px wide, from loading the model to written",
        "labels ([results/slide.csv](results/slide.csv)). Both name machine and command; a",
        "machine's cores are not equally fast on every day, so compare within one file only."
        + whose("folder.csv", "slide.csv")
        + "\n",
        "| | seconds | megapixels a second | memory, MiB |",
        "|---|---|---|---|",
    ]
    for row in folder:
        mpx, mib = float(row["mpx_per_s"]), float(row["peak_mb_so_far"])
        lines.append(f"| folder, diameter {row['diameter']} | {float(row['seconds']):.1f} | {mpx:.2f} | {mib:,.0f} |")
    first, later = (float(folder[-1][name]) for name in ("first_start_s", "start_s"))
    lines.append(f"| the first start after installing, until an image of 128 px is segmented | {first:.2f} | | |")
    lines.append(f"| later starts, the same | {later:.2f} | | |")
    for row in slide:
        side, seconds = int(row["side_px"]), float(row["seconds"])
        cells = f"{seconds:.1f} | {side**2 / 1e6 / seconds:.2f} | {float(row['peak_mb']):,.0f}"
        lines.append(f"| slide, {row['kind']}, {side:,} px | {cells} |")
    return "\n".join(lines)


def precisions() -> str:
    rows, older = rows_of("precision.csv"), whose("precision.csv")
    lines = [
        "### Precision, and `--accurate`\n",
        "Held-out images of train at the true scale (of at most 1.5 megapixels), and the speed of the network alone on",
        "a tile of 1,280 px ([results/precision.csv](results/precision.csv)). `--precision` and `--accurate` (four",
        "views, two scales) choose." + older + "\n",
        "| precision | accurate | images | mean F1@0.5 | @0.8 | megapixels a second |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        views, f1s = "yes" if row["accurate"] == "True" else "no", f"{number(row['f1_50'])} | {number(row['f1_80'])}"
        lines.append(f"| {row['precision']} | {views} | {row['n_images']} | {f1s} | {float(row['mpx_per_s']):.2f} |")
    return "\n".join(lines)


def optics() -> str:
    rows = rows_of("optics.csv")
    lines = [
        "### Other microscopes and file formats, simulated\n",
        "Held-out images of train (tissue sections left out), unchanged and as other microscopes or programs would",
        "have shown or saved them, with their true diameters. There is no labelled DIC image: the row is a hint only,",
        "since training simulates DIC by the same function ([results/optics.csv](results/optics.csv))."
        + whose("optics.csv")
        + "\n",
        "| shown as | images | mean F1@0.5 | median |",
        "|---|---|---|---|",
    ]
    for shown_as in dict.fromkeys(row["optics"] for row in rows):
        values = [float(row["f1_50"]) for row in rows if row["optics"] == shown_as]
        lines.append(f"| {shown_as} | {len(values)} | {mean(values):.3f} | {median(values):.3f} |")
    return "\n".join(lines)


def curve() -> str:
    """Hours of training and F1 on held-out crops, as a drawing and as its last row of every part."""
    parts: dict[str, list[tuple[float, float]]] = {}
    hours_before = 0.0
    for row in rows_of("default-model-training.csv"):
        if row["part"] not in parts:
            hours_before = max((hours for points in parts.values() for hours, _ in points), default=0.0)
        point = (hours_before + float(row["seconds"]) / 3600, float(row["held_out_f1"]))
        parts.setdefault(row["part"], []).append(point)
    draw(parts, ROOT / "docs/learning_curve.svg")
    ends = ", ".join(f"{points[-1][1]:.3f} after {points[-1][0]:.1f} hours" for points in parts.values())
    return (
        "### Learning curve\n\n"
        "Mean F1 at IoU 0.5 on 32 crops of held-out images, read with the settings that decoding starts with, of the\n"
        "running mean of the weights. Each part has crops of its own, so a step between parts tells nothing\n"
        "([results/default-model-training.csv](results/default-model-training.csv)).\n"
        f"The learning rate rises again where a part begins. At the end of each: {ends}.\n\n"
        "![F1 on held-out crops against hours of training](learning_curve.svg)"
    )


def draw(parts: dict[str, list[tuple[float, float]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    with mpl.rc_context({"svg.hashsalt": "fewcell", "font.size": 10}):
        figure, axis = pyplot.subplots(figsize=(7, 3.5))
        for part, points in parts.items():
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"part {part}")
        axis.set(xlabel="hours of training on 2 cores", ylabel="mean F1 on held-out crops", xlim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="lower right")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})


def rows_of(name: str) -> list[dict[str, str]]:
    with open(ROOT / "docs/results" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def whose(*names: str) -> str:
    """A sentence that names the tables that are not, or not known to be, of this model; see benchmarks/rows.py."""
    present = sha256(MODEL.read_bytes()).hexdigest()[:12]
    others = [n for n in names if {row.get("model_sha256", row.get("model")) for row in rows_of(n)} != {present}]
    return f" Of an earlier model, or of one that is not named: {', '.join(others)}." if others else ""


def held_out(facts: dict) -> str:
    scores = ", ".join(f"{name.removeprefix('f1_50_')} {value:.3f}" for name, value in facts["held_out"].items())
    return (
        "### Held-out part of train\n\n"
        "Mean F1 at IoU 0.5 at the true scale and at 0.8 and 1.25 times it, with scores from a scorer fitted to\n"
        "other experiments; thresholds were chosen on these images. Last, the share of synthetic images without cells\n"
        f"in which nothing was found. {scores.replace('f1_50', 'all').replace('_', ' ')}."
    )


def sources(facts: dict) -> str:
    columns = "| source | images with labels | without | licence, as the manifest gives it |"
    lines = ["### Learned from\n", columns, "|---|---:|---:|---|"]
    lines += [
        f"| {name} | {of['images']} | {of.get('unlabelled', 0)} | {of['licence']} |"
        for name, of in facts["trained_on"].items()
    ]
    return "\n".join(lines)


def shown(column: str, text: str) -> str:
    return text if column.startswith("n_") else number(text)


def number(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    return f"{value:.3f}"


if __name__ == "__main__":
    main()
