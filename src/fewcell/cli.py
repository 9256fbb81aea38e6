"""The command `fewcell`: one function a command. Heavy libraries are imported where they are used."""

import io
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewcell.errors import ConfigError, FewcellError, FewcellWarning, ReadError, pick, require_training, said_of
from fewcell.flags import read_channels, read_diameter, read_notes, read_plane, read_shard
from fewcell.terminal import done_line, empty_tiles, problems_of, shown_segmenting, unread_tiles

if TYPE_CHECKING:
    from fewcell.segmenter import FileSettings, Segmenter
    from fewcell.slides import Execution

__all__ = [
    "app",
    "benchmark",
    "challenge",
    "demo",
    "evaluate",
    "info",
    "main",
    "merge",
    "package",
    "qupath",
    "report",
    "segment",
    "serve",
    "train",
]

app = typer.Typer(
    help="Few labels, every cell: find every cell in a microscopy image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Prepare datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the outputs; made if it is missing.")]
Model = Annotated[str, typer.Option(help="A model folder, or the name of a model inside the package.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.  [default: one per core]")]
Device = Annotated[str, typer.Option(help="cpu, or cuda (needs torch and a GPU).")]
Precision = Annotated[
    str,
    typer.Option(help="In which a CPU runs the network: int8, bf16, f32; auto: the fastest; int8 where it is exact."),
]


def main() -> None:
    """Run the command line; an error that fewcell raises on purpose, or the system, is one message and exit code 1."""
    warnings.showwarning = _warn
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what it cannot encode
            stream.reconfigure(errors="backslashreplace")
    for before, word in pairwise(sys.argv):
        if not word or re.fullmatch("--[a-z-]+=", word):  # as a folder it would be the current one
            _fail(f"{word or before} is followed by nothing. Is a variable not set? The current folder is called '.'.")
    if "RANK" not in os.environ:  # torchrun has to end what waits for another process, and hears of no signal
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that temporary files are removed
    try:
        app()
    except FewcellError as error:
        _fail(str(error))
    except OSError as error:
        _fail(said_of(error))


@app.command()
def segment(
    paths: Annotated[list[Path], typer.Argument(help="Images, slides, and folders of them.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder for the outputs, or for one slide the name of its labels: X.zarr."),
    ],
    diameter: Annotated[
        str | None, typer.Option(help="How wide the cells are: 30 (pixels) or 12um.  [default: estimated]")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(min=1e-5, max=1e5, help="Micrometres per pixel, where the file does not say.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channels that the model sees, in order, from 0: 0 or 2,0.")
    ] = None,
    axes: Annotated[str | None, typer.Option(help="Meaning of the axes of an ambiguous file: CYX.")] = None,
    plane: Annotated[str | None, typer.Option(help="Which plane of a stack or time series: z=3 or t=0,z=3.")] = None,
    model: Model = "default",
    device: Device = "cpu",
    precision: Precision = "auto",
    accurate: Annotated[
        bool, typer.Option(help="See each image from four sides, at two scales: hardly better, 11 to 12 times as long.")
    ] = False,
    threads: Threads = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Drop cells less likely to be right.  [default: the model's]")
    ] = None,
    min_area: Annotated[float, typer.Option(min=0, max=1e9, help="Drop cells smaller than this, in pixels.")] = 0,
    export: Annotated[
        list[str] | None,
        typer.Option(
            help="Also write geojson (QuPath), geojson.gz, rois (ImageJ), h5ad (AnnData), parquet, tiff; several too."
        ),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Scheduler of a Dask cluster that does the tiles of slides: tcp://HOST:8786.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do a part of one slide, 2/8 for example; `fewcell merge` ends it.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace outputs that exist; others of an earlier run go, too.")
    ] = False,
) -> None:
    """Find every cell in images: labels (TIFF), an overlay (PNG) and a table (CSV) for each.

    Slides (OME-Zarr, NDPI and the like, and anything of 25 megapixels or more) are segmented tile by tile into
    labels (OME-Zarr). Where that was interrupted, the same command goes on. With --export, or where -o ends in .zarr,
    that is also done with smaller images; their cells are the same. With no other export than tiff, csv or overlay it
    is not: smaller images have these anyway. What each took is in seconds.csv.
    """
    from fewcell.images import SLIDE_SUFFIXES, list_images
    from fewcell.segmenter import FileSettings, Segmenter
    from fewcell.slides import Execution, segment_shard
    from fewcell.slides.exports import EXPORTS

    value, in_um = read_diameter(diameter)
    settings = FileSettings(
        channels=read_channels(channels),
        axes=axes,
        plane=read_plane(plane),
        diameter=value,
        diameter_in_um=in_um,
        pixel_size_um=pixel_size,
        min_score=min_score,
        min_area_px=min_area,
        overwrite=overwrite,
    )
    images = list_images(paths, SLIDE_SUFFIXES)
    part = None if shard is None else read_shard(shard)
    _check_devices(device, dask)
    if part and (len(images) != 1 or out.suffix.lower() != ".zarr"):
        raise ConfigError(f"--shard {shard} is of one slide, with the name of its labels: fewcell segment X -o Y.zarr.")
    if part and export:
        raise ConfigError("--export goes with `fewcell merge`, where all shards come together, not with --shard.")
    for kind in export or ():
        pick("export", kind, EXPORTS).check_machine()
    segmenter = Segmenter.load(model, threads=threads, device=device, precision=precision, accurate=accurate)
    how = Execution(dask=dask)
    if part is None:
        _segment_all(segmenter, images, out, settings, export or [], how)
        return
    with shown_segmenting() as (_, report):
        unread = segment_shard(segmenter, images[0], out, part, settings, how=how, report=report)
    typer.echo(f"Shard {shard} of {images[0].name} is done. When all are: fewcell merge {out}")
    if unread:
        raise ReadError(unread_tiles(unread))


@app.command()
def merge(
    out: Annotated[Path, typer.Argument(help="The labels that shards were given as -o: X.zarr.")],
    export: Annotated[list[str] | None, typer.Option(help="As for segment.")] = None,
    dask: Annotated[str | None, typer.Option(help="As for segment.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option(help="Replace outputs that exist.")] = False,
) -> None:
    """Finish a slide that was segmented in shards: what is missing is done, and the outputs are written."""
    from fewcell.slides import ALWAYS, Execution, merge_slide

    _check_devices(device, dask)
    kinds, how = [*dict.fromkeys((*ALWAYS, *(export or ())))], Execution(dask=dask)
    with shown_segmenting() as (_, report):
        found = merge_slide(
            out, exports=kinds, how=how, device=device, threads=threads, overwrite=overwrite, report=report
        )
    typer.echo(f"{Path(found.plan.slide).name}: {found.n_cells} cells{empty_tiles(found)}")
    if problems := [*([unread_tiles(found.failed)] if found.failed else []), *found.refused]:
        raise ReadError("\n  ".join(problems))


@app.command()
def demo(out: Out = Path("demo"), threads: Threads = None) -> None:
    """Segment the two microscopy images that come with scikit-image, to see that all works."""
    import shutil

    from skimage import data

    from fewcell.segmenter import FileSettings, Segmenter

    out.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.load(threads=threads)
    for name, diameter_px in (("ihc.png", 14.0), ("cell.png", None)):
        image = Path(shutil.copy(Path(data.__file__).parent / name, out))
        _segment_all(segmenter, [image], out, FileSettings(diameter=diameter_px, overwrite=True))
    typer.echo(f"See the overlays: {out / 'ihc_overlay.png'} and {out / 'cell_overlay.png'}")


@app.command()
def info(model: Model = "default") -> None:
    """Show versions, engine, threads, and what a model has learned from."""
    from importlib.metadata import version

    from fewcell.engine import available_threads, choose_precision, offered_precisions
    from fewcell.segmenter import INT8_FILE, find_model, read_model

    folder = find_model(model)
    facts = read_model(folder)
    settings = {k: v for k, v in facts.representation.settings.items() if k != "scorer"}  # hundreds of numbers
    has_int8 = INT8_FILE in facts.sha256
    chosen = choose_precision("auto", has_int8=has_int8)
    offered = ", ".join(offered_precisions(has_int8=has_int8))
    rows = {
        "fewcell": version("fewcell"),
        "python": sys.version.split()[0],
        "engine": f"OpenVINO {version('openvino')} on the CPU, {available_threads()} threads",
        "precision": f"{chosen} (this CPU and model offer {offered}; --precision chooses)",
        "model": str(folder),
        "network": f"{facts.network.name} {facts.network.settings or ''}".strip(),
        "representation": f"{facts.representation.name} {settings}",
        "canonical scale": f"cells {facts.canonical_diameter_px:g} px wide",
        "min score": f"{facts.min_score:g}",
        "held-out scores": ", ".join(f"{k} {v:.3f}" for k, v in facts.held_out.items()),
    }
    for name, value in rows.items():
        typer.echo(f"{name:16} {value}")
    for source, of in facts.trained_on.items():
        without = f", {of.unlabelled} without labels" if of.unlabelled else ""
        typer.echo(f"{'trained on':16} {source}: {of.images} images{without}, licence: {of.licence}")


@app.command()
def serve(
    folder: Annotated[
        Path, typer.Argument(help="The folder that holds your images; results go into FOLDER/fewcell.")
    ] = Path(),
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than this reach beyond this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8422,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that may be chosen besides the one inside the package; may be repeated."),
    ] = None,
    threads: Threads = None,
) -> None:
    """See the cells of images and slides on a local web page, correct them, teach the model, download the results."""
    from fewcell.web import serve as serve_page

    def ready(address: str) -> None:
        typer.echo(f"Open this address in your browser: {address}\nStop with Ctrl-C.")

    models = [*dict.fromkeys(["default", *(model or ())])]
    serve_page(folder, host=host, port=port, models=models, threads=threads, ready=ready)


@app.command()
def train(
    out: Out,
    data: Annotated[
        list[Path] | None, typer.Argument(help="Dataset folders: images/, labels/ of any kind, manifest.csv.")
    ] = None,
    labelled: Annotated[list[Path] | None, typer.Option(help="A dataset folder, as DATA.")] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="Images to learn from without labels, or a folder of such; by consensus unless you say how."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A TOML recipe; flags win over it.")] = None,
    from_model: Annotated[
        str | None, typer.Option(help="Teach this model (such as default) your images: minutes, and few labels.")
    ] = None,
    may_forget: Annotated[
        bool, typer.Option("--may-forget", help="Only your images count: what is taught may forget all others.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="How long to train.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps to train, instead of minutes.")] = None,
    network: Annotated[str | None, typer.Option(help="The network, by its name.")] = None,
    representation: Annotated[str | None, typer.Option(help="The representation, by its name.")] = None,
    objective: Annotated[str | None, typer.Option(help="The objective, by its name.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, split and crops.  [default: 0]")] = None,
    threads: Threads = None,
    resume: Annotated[
        bool, typer.Option(help="Go on with the run in the output folder, by the recipe it began with.")
    ] = False,
) -> None:
    """Train a model on labelled images; the model folder is OUT/model."""
    require_training()
    from fewcell.config import load_recipe
    from fewcell.data.dataset import open_dataset, open_unlabelled
    from fewcell.segmenter import read_model
    from fewcell.training.blend import recipe_from
    from fewcell.training.fit import begun_recipe, fit
    from fewcell.training.progress import shown_progress

    flags = {
        "minutes": minutes,
        "steps": steps,
        "network": network,
        "representation": representation,
        "objective": objective or ("consensus" if unlabelled and not (recipe or resume or from_model) else None),
        "seed": seed,
        "threads": threads,
        "still_found": 0.0 if may_forget else None,
    }
    base = begun_recipe(out) if resume else recipe_from(from_model, unlabelled=bool(unlabelled)) if from_model else None
    plan = load_recipe(recipe, base=base, **flags)
    if may_forget and not plan.teaches:
        raise ConfigError("--may-forget is for a model that is taught: name it by --from-model.")
    folders = [*(data or []), *(labelled or [])]
    samples = [sample for folder in folders for sample in open_dataset(folder)] + open_unlabelled(unlabelled or [])
    with shown_progress() as report:
        folder = fit(plan, samples, out, resume=resume, report=report, say=typer.echo)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process speaks
        return
    if plan.teaches:
        scores = read_model(folder).held_out
        kept = "; nothing was better than the start, which is kept"
        if scores["share"]:
            left = scores.get("still_found")
            kept = "" if left is None else f"; {left:.3f} against what the start finds in drawn images"
        before, after = scores["f1_50_before"], scores["f1_50"]
        means = f"mean over IoU 0.5 to 0.9: {scores['f1_mean_before']:.3f}, then {scores['f1_mean']:.3f}"
        typer.echo(f"F1 on held-out parts, true diameter: {before:.3f} before, {after:.3f} after ({means}){kept}")
        if "forgets_at" in scores:
            typer.echo("To go further would have meant to forget other images. If only yours count: --may-forget.")
    typer.echo(f"The model is in {folder}. Use it: fewcell segment IMAGES -o OUT --model {folder}")


@app.command()
def evaluate(
    true_dir: Annotated[Path, typer.Argument(help="A dataset folder, or a folder of <stem>_label.tiff.")],
    predicted_dir: Annotated[Path, typer.Argument(help="A folder of <stem>_label.tiff as `segment` writes them.")],
    manifest: Annotated[
        Path | None, typer.Option(help="CSV with modality, source, experiment and split of every stem.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write one row an image to this CSV, and a summary beside it.")
    ] = None,
    note: Annotated[
        list[str] | None, typer.Option(help="A column to add to every row of the CSVs: name=value.")
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(help="Draw the 12 images with the lowest F1 into this folder, mistakes in colour.")
    ] = None,
    efficiency: Annotated[
        bool, typer.Option("--efficiency", help="Show what each image took, and what time the challenge forgives.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace outputs that exist.")] = False,
) -> None:
    """Score labels against true ones by the rule of the NeurIPS 2022 challenge."""
    from rich.console import Console

    from fewcell.benchmark import (
        evaluate_folders,
        measure_efficiency,
        render,
        render_efficiency,
        save_rows,
        save_summary,
        summarise,
    )
    from fewcell.images import check_free

    extra = read_notes(note or [])
    tables = (out, out.with_name(f"{out.stem}-summary.csv")) if out else ()
    for path in tables:  # before anything is scored, which may take long
        check_free(path, overwrite=overwrite)
    evaluation = evaluate_folders(true_dir, predicted_dir, manifest=manifest)
    times = measure_efficiency((row.stem for row in evaluation.rows), predicted_dir) if efficiency else None
    summary = summarise(evaluation)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(render(summary, evaluation))
    if times is not None:
        console.print(render_efficiency(times))
    if tables:
        save_rows(evaluation, tables[0], extra=extra, overwrite=overwrite)
        save_summary(summary, tables[1], extra=extra, overwrite=overwrite)
    if draw is not None:
        from fewcell.report.mistakes import draw_worst

        draw_worst(evaluation, draw, overwrite=overwrite)
    if evaluation.failures:
        raise typer.Exit(1)


@app.command()
def benchmark(
    plan: Annotated[Path, typer.Argument(help="A TOML file: which networks, representations, objectives, labels.")],
    out: Out,
) -> None:
    """Train and score every model of a plan on the same data and budget; go on where it was interrupted."""
    require_training()
    from fewcell.benchmark import run_plan

    rows, failed = run_plan(plan, out, report=typer.echo)
    typer.echo(f"One row a run: {rows}")
    if failed:
        typer.echo(f"{len(failed)} runs failed:", err=True)
        for run in failed:
            typer.echo(f"  {run.stage} {run.key}:\n{run.message}", err=True)
        raise typer.Exit(1)


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Folders that `fewcell benchmark` wrote, or their rows.csv.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The page; a Markdown twin is written beside it.")],
    data: Annotated[
        Path | None, typer.Option(help="The test dataset: shows crops of its images with every method's mistakes.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a page that exists.")] = False,
) -> None:
    """Write what a benchmark found as one self-contained page: tables, figures, pictures, words."""
    from fewcell.report import write_report

    command = shlex.join(["fewcell", "report", *map(str, results), "-o", str(out)])
    for path in write_report(results, out, data=data, command=command, overwrite=overwrite):
        typer.echo(path)


@app.command()
def package(
    model: Annotated[str, typer.Argument(help="A model folder, or the name of a model inside the package.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The package, NAME.zip.")],
    author: Annotated[list[str] | None, typer.Option(help="Who made the model; may be repeated.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights by its SPDX name: CC-BY-4.0.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a package that exists.")] = False,
) -> None:
    """Write a model as a package for bioimage.io: its network as ONNX, an example, words, and the model folder."""
    from fewcell.handover import package_model

    package_model(model, out, authors=author or (), licence=licence, overwrite=overwrite)
    typer.echo(out)


@app.command()
def qupath(
    out: Annotated[Path, typer.Option("-o", "--out", help="The script.")] = Path("fewcell.groovy"),
    overwrite: Annotated[bool, typer.Option(help="Replace a script that exists.")] = False,
) -> None:
    """Write a script for QuPath that finds the cells of the open image with this fewcell."""
    from fewcell.handover import write_qupath_script

    write_qupath_script(out, overwrite=overwrite)
    typer.echo(f"{out}: open it in QuPath's script editor (Automate > Script editor) and choose Run.")


@data_app.command()
def challenge(
    folder: Annotated[Path, typer.Argument(help="Where the downloaded archives or unpacked folders are.")],
    out: Out,
) -> None:
    """Lay out the public archives of the NeurIPS 2022 Cell Segmentation Challenge as a dataset, and check them.

    The archives are record 10719375 on Zenodo; download them first.
    """
    from fewcell.data.challenge import lay_out_challenge

    report = lay_out_challenge(folder, out)
    for split, count in report.counts.items():
        typer.echo(f"{split:14} {count} images")
    for line in (*report.warnings, *report.problems):
        typer.echo(line, err=True)
    if report.problems:
        raise typer.Exit(1)


def _check_devices(device: str, dask: str | None) -> None:
    if dask and device != "cpu":
        raise ConfigError(
            f"--device {device} does not reach the workers of --dask, which use their CPUs. Leave one out."
        )


def _segment_all(
    segmenter: "Segmenter",
    images: list[Path],
    out: Path,
    settings: "FileSettings",
    exports: Sequence[str] = (),
    how: "Execution | None" = None,
) -> None:
    """Segment files one after the other, say what became of each, and end with exit code 1 if one failed."""
    from fewcell.segmenter import Failed
    from fewcell.slides import segment_inputs

    failures: list[Failed] = []
    with shown_segmenting(len(images)) as (advance, report):
        for result in segment_inputs(segmenter, images, out, settings, exports=exports, how=how, report=report):
            advance()
            if not isinstance(result, Failed):
                typer.echo(done_line(result))
            failures += problems_of(result)
    if failures:
        count = len({failure.path for failure in failures})
        typer.echo(f"{count} of {len(images)} files failed, in part or all:", err=True)
        for failure in failures:
            where = "" if str(failure.path) in str(failure.error) else f"{failure.path}: "
            typer.echo(f"  {where}{failure.error}", err=True)
        raise typer.Exit(1)


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    """Say what fewcell warns of as it says all else; of libraries, where in their source it was."""
    own = issubclass(category, FewcellWarning)
    typer.echo(f"fewcell warns: {message}" if own else f"{filename}:{lineno}: {category.__name__}: {message}", err=True)


def _fail(message: str) -> None:
    typer.echo(f"fewcell: {message}", err=True)
    raise SystemExit(1)
