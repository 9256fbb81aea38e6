"""Who may ask: only pages that this server sent, in a browser that was given the address with its token.

Other pages in the same browser can send requests to this machine, too. They do not know the token, name another
origin, and those that make a name of their own mean this machine are told by the host.
"""

import ipaddress
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard"]

# The one style that OpenSeadragon puts into the page, which takes away a frame on touch screens.
OPENSEADRAGON_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {OPENSEADRAGON_STYLE}; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}


class Guard:
    """Lets requests through that carry the token, as a cookie, and that come from this server's own pages."""

    def __init__(self, app: "ASGIApp", *, token: str, host: str, port: int) -> None:
        """host, port: what the server listens on."""
        self.app, self.token, self.port = app, token, port
        self.names = {"127.0.0.1", "localhost", "::1", host.lower()}
        self.is_open = host in ("0.0.0.0", "::")  # listens on every address of the machine
        self.cookie = f"fewcell-{port}"  # browsers share cookies between ports

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        from starlette.requests import Request

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS.items()]}
            await send(message)

        answer = self._refusal(Request(scope)) or self.app
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: "Request") -> "Response | None":
        """What is answered instead of what was asked for; None if nothing speaks against it."""
        from starlette.responses import PlainTextResponse, RedirectResponse

        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._is_own(host):
            return PlainTextResponse("This name or port does not belong to fewcell. A tunnel needs the same port.", 421)
        is_change = request.method not in ("GET", "HEAD")
        if (is_change or origin is not None) and origin != f"http://{host}":
            return PlainTextResponse("Another page asked for this, so it was not done.", 403)
        given = request.query_params.get("token", "")
        if request.url.path == "/" and self._is_token(given):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")  # a link to it may be on any page
            return answer
        if not self._is_token(request.cookies.get(self.cookie, "")):
            return PlainTextResponse("Open the address that `fewcell serve` has printed: it holds the key.", 403)
        return None

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(errors="replace"), self.token.encode())

    def _is_own(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.port or "@" in host:
            return False
        return name in self.names or (self.is_open and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
