"""What holds for every request: limits of its size and time, an end when its client leaves, safe headers, a count."""

import asyncio
import json
import re
import time
from collections.abc import Container
from dataclasses import dataclass
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


CLIENT_LEFT = 499  # status under which a request is counted whose client left before the answer, as by nginx


@dataclass(eq=False)
class Guard:
    """A layer around an application.

    A page of another site could read answers, after it had its own name point to this machine; the server may therefore
    be addressed under some names alone, beside the address that a connection was made to.
    """

    app: ASGIApp  # what answers
    limits: Limits  # bytes and seconds of a request
    metrics: Metrics  # where it is counted
    paths: frozenset[str] = frozenset()  # addresses that are counted by their name; others together
    hosts: Container[str] | None = None  # names under which the server may be addressed; all if None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, scope["path"])
        start = time.perf_counter()
        try:
            if self._is_foreign(scope):
                await answer.refuse(400, "the Host header names another server; allow it by --allow-host")
                return
            if _stated_length(scope) > self.limits.body:
                await answer.refuse(413, self._too_large())
                return
            async with asyncio.timeout(self.limits.seconds):
                await self._until_gone(scope, _Body(receive, self.limits.body, self._too_large()), answer)
        except TimeoutError:
            await answer.refuse(504, f"no answer in {self.limits.seconds:g} s: send fewer or smaller molecules")
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.requests.labels(path, answer.status or 500).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start)

    async def _until_gone(self, scope: Scope, body: "_Body", answer: "_Answer") -> None:
        """Answer, unless the client leaves: then its work is given up."""
        work = asyncio.ensure_future(self.app(scope, body, answer))
        gone = asyncio.ensure_future(body.disconnected())
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
            else:
                answer.status = answer.status or CLIENT_LEFT
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _is_foreign(self, scope: Scope) -> bool:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = re.sub(r":\d*$", "", host).strip("[]").lower()
        own = (scope.get("server") or ("",))[0]
        return self.hosts is not None and bool(host) and name != own and name not in self.hosts

    def _too_large(self) -> str:
        return f"a request may have {self.limits.body} bytes: send it in parts"


class _Body:
    """Receives a request of a limited size, and sees when its client leaves."""

    def __init__(self, receive: Receive, limit: int, reason: str) -> None:
        self._receive, self._left, self._reason = receive, limit, reason
        self._whole, self._gone = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> Message:
        if self._whole.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, self._reason)
        if message["type"] == "http.disconnect":
            self._gone.set()
        if not message.get("more_body"):
            self._whole.set()
        return message

    async def disconnected(self) -> None:
        """Wait until the client leaves."""
        await self._whole.wait()
        while not self._gone.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._gone.set()


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
