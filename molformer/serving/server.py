"""Running the server: a socket, uvicorn, and an end that finishes what is in flight, in bounded time."""

import asyncio
import faulthandler
import os
import socket
from collections.abc import Callable, Collection, Container
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from molformer.errors import ConfigError
from molformer.serving.app import create_app
from molformer.serving.batcher import CLOSE_SECONDS
from molformer.serving.limits import Limits
from molformer.serving.service import Service

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")  # of this machine, for itself


def serve(
    service: Service,
    host: str = "127.0.0.1",
    port: int = 8000,
    announce: Callable[[str], None] = print,
    allowed_hosts: Collection[str] = (),
) -> None:
    """Answer requests until a signal ends it; what is in flight is finished, for as long as a request may take.

    A process that is frozen, such as by native code that never returns, ends itself after that time and some seconds.
    By default nobody outside this machine can reach it. A port of 0 is a free one; the address is announced when
    requests are accepted. Host headers may have names of this machine and those allowed, any with `*`.

    Raises:
        ConfigError: the address is taken or is not one of this machine.
    """
    try:
        listening = listen(host, port)
    except (OSError, OverflowError) as error:
        service.close()
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else error
        raise ConfigError(f"cannot listen at {host}, port {port}: {reason}; choose another --port or --host") from None
    shown = f"[{host}]" if ":" in host else host
    hosts = {name.lower() for name in (*LOCAL_NAMES, host, socket.gethostname(), *allowed_hosts)}
    server = make_server(service, None if "*" in hosts else hosts)
    seconds = service.limits.seconds + 2 * CLOSE_SECONDS

    async def postpone_end() -> None:
        faulthandler.dump_traceback_later(seconds, exit=True)

    server.config.callback_notify, server.config.timeout_notify = postpone_end, 1
    with listening:
        announce(f"http://{shown}:{listening.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # the signal that ended it, which uvicorn passes on
            server.run(sockets=[listening])
    if service.close():
        faulthandler.cancel_dump_traceback_later()


def listen(host: str, port: int) -> socket.socket:
    """A socket whose connections send at once: held back until the client acknowledges, an answer is 40 ms late."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=512)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def make_server(service: Service, hosts: Container[str] | None = None) -> uvicorn.Server:
    """The uvicorn server of a service; at its end it waits for what is in flight, but not longer than a request may."""
    config = uvicorn.Config(
        create_app(service, hosts),
        http=_protocol(service.limits),
        limit_concurrency=service.limits.connections,
        log_level="error",  # what clients do wrong is no news
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(service.limits.seconds) + 1,
    )
    return uvicorn.Server(config)


def _protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol of uvicorn that also closes a connection which does not send the header of a request in time."""

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop()

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()  # a request is being answered
            elif self.timer is None:
                self.timer = self.loop.call_later(limits.header_seconds, self.transport.abort)

        def _stop(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

    return Protocol
