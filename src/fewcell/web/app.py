"""The application: its addresses behind the guard, and one clear message for all that goes wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fewcell.errors import FewcellError
from fewcell.web.guard import Guard
from fewcell.web.refusal import Refused
from fewcell.web.routes import routes
from fewcell.web.site import Site

__all__ = ["make_app"]

ANSWERED_AT_ONCE = 8  # requests; each takes memory while it is
FILES_AT_ONCE = 1  # that are written to be taken along; those who ask wait, and keep nobody else from an answer


def make_app(site: Site, *, token: str, host: str, port: int) -> Starlette:
    """The application that serves a site. token: who has it may do everything. host, port: it is reached by."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = ANSWERED_AT_ONCE
        app.state.files = CapacityLimiter(FILES_AT_ONCE)
        yield
        site.close()

    app = Starlette(
        routes=routes(),
        middleware=[Middleware(Guard, token=token, host=host, port=port)],
        exception_handlers={FewcellError: _refused, MemoryError: _no_memory, OSError: _no_file},
        lifespan=lifespan,
    )
    app.state.site = site
    return app


def _refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Refused) else 422
    return JSONResponse({"error": request.app.state.site.folder.named(str(error))}, status)


def _no_memory(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "There was not enough memory for this. Try it again when less is being done."}, 503)


def _no_file(_: Request, error: Exception) -> Response:
    said = getattr(error, "strerror", None) or error
    return JSONResponse({"error": f"A file cannot be used: {said}. Check the folder, your rights, free space."}, 503)
