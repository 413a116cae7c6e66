"""The endpoint of a cluster with several servers: hands each connection to the first server that answers.

`python -m tests.lab.front ADDRESS PORT SERVER...`; what a site's load balancer does, and no more.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Sequence

_CONNECT_S = 1.0
_PIECE_BYTES = 64 * 1024


def serve(address: str, port: int, servers: Sequence[str]) -> None:
    with socket.create_server((address, port), backlog=128) as listener:
        while True:
            caller, _ = listener.accept()
            threading.Thread(target=_lead, args=(caller, port, servers), daemon=True).start()


def _lead(caller: socket.socket, port: int, servers: Sequence[str]) -> None:
    with caller:
        for server in servers:
            with contextlib.suppress(OSError):
                onward = socket.create_connection((server, port), _CONNECT_S)
                break
        else:
            return
        with onward:
            onward.settimeout(None)
            back = threading.Thread(target=_pump, args=(onward, caller), daemon=True)
            back.start()
            _pump(caller, onward)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
