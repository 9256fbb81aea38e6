"""The page's addresses, and what each answers."""

import gzip
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anyio import to_thread
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from fewcell.web import teaching
from fewcell.web.asked import Edit, SegmentTask, TeachTask, Undo, body_of, query_of
from fewcell.web.cells import Cells
from fewcell.web.corrections import Correction
from fewcell.web.downloads import Shown, write_file
from fewcell.web.lessons import count_lessons
from fewcell.web.site import Site
from fewcell.web.upload import receive

__all__ = ["routes"]

STATIC = Path(__file__).parent / "static"
MINUTE = {"Cache-Control": "private, max-age=60"}
NEVER = {"Cache-Control": "no-store"}
LISTED = ("id", "y", "x", "score", "area_px", "diameter_px")  # of every cell; all else of one when it is asked for


def routes() -> Sequence[BaseRoute]:
    """All addresses; `app.state.site` is what they answer from."""
    image, cells = "/api/images/{name}", "/api/images/{name}/cells/{model}"
    tile = "/tiles/{step:int}/{row:int}/{column:int}"
    return [
        Route("/", _page),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/api/state", _state),
        Route("/api/jobs/{number:int}", _stop, methods=["DELETE"]),
        Route("/api/teaching", _lessons, methods=["GET"]),
        Route("/api/teaching", _teach, methods=["POST"]),
        Route("/api/teaching/keep", _keep, methods=["POST"]),
        Route("/api/teaching/drop", _drop, methods=["POST"]),
        Route(f"{cells}/at/{{y:int}}/{{x:int}}", _cell_at),
        Route(f"{cells}/corrections", _correct, methods=["POST"]),
        Route(f"{cells}/corrections", _undo, methods=["DELETE"]),
        Route(f"{cells}/files/{{kind}}", _file),
        Route(cells + tile, _cells_tile),
        Route(cells, _cells),
        Route(f"{image}/segment", _segment, methods=["POST"]),
        Route(f"{image}/thumbnail", _thumbnail),
        Route(image + tile, _picture_tile),
        Route(image, _picture, methods=["GET"]),
        Route(image, _upload, methods=["PUT"]),
    ]


def _site(request: Request) -> Site:
    return request.app.state.site


def _json(content: Any) -> Response:
    return JSONResponse(content, headers=NEVER)


def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers=NEVER)


def _state(request: Request) -> Response:
    return _json(_site(request).state())


def _stop(request: Request) -> Response:
    _site(request).jobs.stop(request.path_params["number"])
    return _json({})


async def _upload(request: Request) -> Response:
    site = _site(request)
    path = await receive(request.path_params["name"], request.stream(), site.folder, site.limits)
    return _json({"name": path.name})


def _picture(request: Request) -> Response:
    return _json(_site(request).picture(request.path_params["name"]).facts())


def _thumbnail(request: Request) -> Response:
    picture = _site(request).picture(request.path_params["name"])
    return Response(picture.thumbnail(), media_type="image/jpeg", headers=MINUTE)


def _picture_tile(request: Request) -> Response:
    picture = _site(request).picture(request.path_params["name"])
    return Response(picture.tile(*_tile(request)), media_type="image/jpeg", headers=MINUTE)


async def _segment(request: Request) -> Response:
    task, name = await body_of(request, SegmentTask), request.path_params["name"]
    job = await run_in_threadpool(_site(request).segment, name, task.model, task.diameter_px, task.channels)
    return _json(job.shown())


def _cells(request: Request) -> Response:
    cells = _found(request)
    state = cells.state
    columns = cells.columns()
    return _json(
        {
            "columns": {name: np.round(columns[name], 4).tolist() for name in LISTED},
            "confirmed": sorted(state.confirmed),
            "corrected": sorted(state.added),
            "regions": state.regions,
            "n_corrections": len(cells.corrections),
            "made": cells.made,
            "diameter_px": cells.plan.diameter_px,
            "diameter_source": cells.plan.diameter_source,
            "larger_px": cells.plan.larger_px,
            "n_unread": len(cells.unread),
        }
    )


def _cells_tile(request: Request) -> Response:
    labels = _found(request).tile(*_tile(request))
    packed = gzip.compress(labels.astype("<u4").tobytes(), compresslevel=1, mtime=0)
    return Response(packed, media_type="application/octet-stream", headers={"Content-Encoding": "gzip", **NEVER})


def _cell_at(request: Request) -> Response:
    return _json({"cell": _found(request).at(request.path_params["y"], request.path_params["x"])})


async def _correct(request: Request) -> Response:
    edit = await body_of(request, Edit)
    points = np.array(edit.points, dtype=np.float64).reshape(len(edit.points), 2)
    where = request.path_params["name"], request.path_params["model"]
    what = edit.kind, edit.cells, points, edit.made
    return _json(_shown(*await run_in_threadpool(_site(request).correct, *where, *what)))


def _undo(request: Request) -> Response:
    where = request.path_params["name"], request.path_params["model"]
    return _json(_shown(*_site(request).undo(*where, query_of(request, Undo).made)))


def _shown(correction: Correction, warning: str) -> dict[str, Any]:
    names = ("kind", "window", "removed", "added", "confirmed")
    return {name: getattr(correction, name) for name in names} | {"warning": warning}


async def _file(request: Request) -> Response:
    return await to_thread.run_sync(_written_file, request, limiter=request.app.state.files)


def _written_file(request: Request) -> Response:
    cells, shown = _found(request), query_of(request, Shown)
    home = _site(request).folder.home
    folder = Path(tempfile.mkdtemp(dir=home if os.access(home, os.W_OK) else None, prefix=".download-"))
    remove = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        path = write_file(cells, request.path_params["kind"], shown, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(path, filename=path.name, headers=NEVER, background=remove)


def _lessons(request: Request) -> Response:
    return _json(count_lessons(_site(request).folder.corrections))


async def _teach(request: Request) -> Response:
    return _json((await run_in_threadpool(_site(request).teach, await body_of(request, TeachTask))).shown())


def _keep(request: Request) -> Response:
    return _json({"model": teaching.keep((site := _site(request)).folder, site.models())})


def _drop(request: Request) -> Response:
    teaching.drop(_site(request).folder)
    return _json({})


def _found(request: Request) -> Cells:
    return _site(request).cells(request.path_params["name"], request.path_params["model"])


def _tile(request: Request) -> tuple[int, int, int]:
    return request.path_params["step"], request.path_params["row"], request.path_params["column"]
