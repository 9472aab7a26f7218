"""What holds for every request: a limit of its size and time, headers that keep a browser safe, and a count."""

import asyncio
import json
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from molformer.serving.limits import Limits
from molformer.serving.metrics import Metrics

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page of this server may load: its own files."""

DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""The same for the page of the API, whose scripts write styles into it."""


class Guard:
    """A layer around an application.

    Args:
        app: what answers.
        limits: bytes and seconds of a request.
        metrics: where it is counted.
        paths: addresses that are counted by their name; others together.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, paths: frozenset[str] = frozenset()) -> None:
        self.app, self.limits, self.metrics, self.paths = app, limits, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, scope["path"])
        start = time.perf_counter()
        try:
            if _stated_length(scope) > self.limits.body:
                await answer.refuse(413, self._too_large())
                return
            async with asyncio.timeout(self.limits.seconds):
                await self.app(scope, self._bounded(receive), answer)
        except TimeoutError:
            await answer.refuse(504, f"no answer in {self.limits.seconds:g} s: send fewer or smaller molecules")
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.requests.labels(path, answer.status or 500).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start)

    def _bounded(self, receive: Receive) -> Receive:
        left = self.limits.body

        async def receive_some() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large())
            return message

        return receive_some

    def _too_large(self) -> str:
        return f"a request may have {self.limits.body} bytes: send it in parts"


class _Answer:
    """Sends an answer, with the headers of all, and remembers its status; 0 if there is none yet."""

    def __init__(self, send: Send, path: str) -> None:
        self.status = 0
        self._send = send
        policy = DOCS_POLICY if path == "/docs" else POLICY
        headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
        }
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._headers]}
        await self._send(message)

    async def refuse(self, status: int, reason: str) -> None:
        if self.status:
            return
        body = json.dumps({"detail": reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
        await self({"type": "http.response.body", "body": body})


def _stated_length(scope: Scope) -> int:
    """Bytes that a request says it has; 0 if it says nothing."""
    stated = dict(scope["headers"]).get(b"content-length", b"0")
    return int(stated) if stated.isdigit() else 0
