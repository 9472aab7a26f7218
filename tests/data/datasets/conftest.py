"""A server on the loopback that can cut connections, ignore ranges and refuse."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server:
    """Files by path, and how they are served; `ranges` keeps the Range header of every request."""

    def __init__(self):
        self.files = {}
        self.cut_after = []  # bytes after which the next connections are cut
        self.knows_ranges = True
        self.tells_length = True
        self.ranges = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                server.ranges.append(wanted)
                content = server.files.get(self.path)
                if isinstance(content, int) or content is None:
                    self.send_error(content or 404)
                    return
                start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and server.knows_ranges else 0
                if start >= len(content) > 0 and start:
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                if server.tells_length:
                    self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                rest = content[start:]
                self.wfile.write(rest[: server.cut_after.pop(0)] if server.cut_after else rest)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.close()
