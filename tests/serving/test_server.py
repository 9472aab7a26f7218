import socket

import pytest

pytest.importorskip("fastapi")

from molformer.serving.server import listen


def test_answers_are_sent_at_once():
    """An answer is written in two parts; the second one must not wait for the client to acknowledge the first."""
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
