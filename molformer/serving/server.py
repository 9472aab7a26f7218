"""Running the server: a socket, uvicorn, and an end that finishes what is in flight."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from molformer.errors import ConfigError
from molformer.serving.app import create_app
from molformer.serving.service import Service


def serve(service: Service, host: str = "127.0.0.1", port: int = 8000, announce: Callable[[str], None] = print) -> None:
    """Answer requests until a signal ends it; what is in flight is finished.

    Args:
        service: what is served.
        host: the address to listen at; by default nobody outside this machine can reach it.
        port: 0 takes a free one.
        announce: called with the address when requests are accepted.

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
    with listening:
        announce(f"http://{shown}:{listening.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # the signal that ended it, which uvicorn passes on
            make_server(service).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket whose connections send at once: held back until the client acknowledges, an answer is 40 ms late."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=512)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def make_server(service: Service) -> uvicorn.Server:
    """The uvicorn server of a service; at its end it waits for what is in flight, but not longer than a request may."""
    config = uvicorn.Config(
        create_app(service),
        log_level="error",  # what clients do wrong is no news
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(service.limits.seconds) + 1,
    )
    return uvicorn.Server(config)
