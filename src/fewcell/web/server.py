"""Start the server of the page."""

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fewcell.errors import ConfigError, require
from fewcell.family import alone

__all__ = ["serve"]


def serve(
    root: Path,
    *,
    host: str,
    port: int,
    models: Sequence[str],
    threads: int | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page for a folder of images, until it is interrupted.

    port: 0 takes one that is free. ready: told the address to open, with the token in it.

    Raises ConfigError if the port cannot be had or the folder is none, WriteError if it is served already,
    MissingDependencyError without the extra `web`.
    """
    require("web", "starlette", "uvicorn")
    import uvicorn

    from fewcell.web.app import make_app
    from fewcell.web.site import Site

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # who opens the address at once waits, and is not turned away
        except OSError as error:
            raise ConfigError(
                f"Nobody can listen at {host}, port {port}: {error.strerror}. Choose another port with --port."
            ) from None
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        site = Site(root, models, threads=threads)
        app = make_app(site, token=token, host=host, port=port)
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        with suppress(OSError):  # a folder in which nothing can be written can be looked at
            site.folder.home.mkdir(exist_ok=True)
        taken = f"{root} is served already. Use the page that is open, or end that server."
        with alone(site.folder.home / "serving.lock", taken), suppress(KeyboardInterrupt):  # is how it is stopped
            site.tidy()
            ready(f"http://{shown}:{port}/?token={token}")
            uvicorn.Server(config).run(sockets=[listening])
