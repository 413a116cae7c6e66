"""An API server that is not in the mood: before a real one, it answers with errors of its own at first."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import yaml

_PIECE = 64 * 1024
_TIMEOUT_S = 60
_OWN = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


class Moody:
    """What it does, and what it did."""

    def __init__(self, moods: Sequence[int], every: int, after: int) -> None:
        """After so many writes, one of `moods` (statuses) to each `every`-th, until none is left."""
        self._moods, self._every, self._after = list(moods), every, after
        self._writes = 0
        self._lock = threading.Lock()
        self.refused: list[tuple[int, str, str]] = []
        """Status, method and path of what was turned away."""

    def mood(self, method: str, path: str) -> int | None:
        """The status to answer with; `None` to hand it on."""
        if method == "GET":
            return None
        with self._lock:
            self._writes += 1
            if not self._moods or self._writes <= self._after or self._writes % self._every:
                return None
            status = self._moods.pop(0)
            self.refused.append((status, method, path.partition("?")[0]))
            return status

    @property
    def is_calm(self) -> bool:
        """Whether every mood was had."""
        return not self._moods


@contextmanager
def moody(
    kubeconfig: Path, folder: Path, moods: Sequence[int], every: int = 2, after: int = 0
) -> Iterator[tuple[Moody, Path]]:
    """A kubeconfig that leads through it to the API server of another."""
    config = yaml.safe_load(kubeconfig.read_text())
    mood = Moody(moods, every, after)
    with TemporaryDirectory() as keys:
        upstream, context = _upstream(config, Path(keys))

        class Handler(_Handler):
            behaviour, target, tls = mood, upstream, context

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield mood, _kubeconfig(folder / "moody.kubeconfig", server.server_address[1])
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _upstream(config: dict[str, Any], keys: Path) -> tuple[str, ssl.SSLContext]:
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    files = {}
    for name, value in {**cluster, **user}.items():
        if name.endswith("-data"):
            files[name] = keys / name
            files[name].write_bytes(base64.b64decode(value))
        elif name.startswith(("certificate-authority", "client-")):
            files[f"{name}-data"] = Path(value)
    context = ssl.create_default_context(cafile=str(files["certificate-authority-data"]))
    context.load_cert_chain(files["client-certificate-data"], files["client-key-data"])
    return urlsplit(cluster["server"]).netloc, context


def _kubeconfig(path: Path, port: int) -> Path:
    here = "moody"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": here,
                "clusters": [{"name": here, "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": here, "user": {}}],
                "contexts": [{"name": here, "context": {"cluster": here, "user": here}}],
            }
        )
    )  # fmt: skip
    return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Moody
    target: str
    tls: ssl.SSLContext

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        status = self.behaviour.mood(self.command, self.path)
        if status is not None:
            self._refuse(status)
            return
        upstream = http.client.HTTPSConnection(self.target, context=self.tls, timeout=_TIMEOUT_S)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _OWN}
            upstream.request(self.command, self.path, body, headers)
            self._hand_back(upstream.getresponse())
        except (OSError, http.client.HTTPException):
            # A watch that nobody reads any more, or that has lasted long enough.
            self.close_connection = True
        finally:
            upstream.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - the base class's names

    def _hand_back(self, reply: http.client.HTTPResponse) -> None:
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in _OWN:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := reply.read1(_PIECE):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int) -> None:
        reason = {429: "TooManyRequests", 500: "InternalError"}[status]
        said = {
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status,
            "reason": reason, "message": "not in the mood",
        }  # fmt: skip
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == http.HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: what was refused is kept."""
