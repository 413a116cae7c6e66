"""The GPUs of a host that is told by a file what happens to them: for an agent in a process of its own.

Each line of the file is one order, in JSON, obeyed once: `{"do": "xid", "gpu": 3, "xid": 79}`. The rest of
a line are the arguments of the method of `GpuHost` that it names; `{"do": "gpu", "gpu": 2, "demand_w":
640}` and `{"do": "host", "permitted": false}` set attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from control_plane.simulator.gpus import Busy, Gpu, GpuHost

_METHODS: Final = frozenset(
    {
        "fall_off", "load", "other_writer", "power_cycle", "reboot", "recovery", "uncorrectable",
        "unload", "xid",
    }
)  # fmt: skip
_OF_GPU: Final = frozenset(name for name in Gpu.__slots__ if name not in {"index", "model", "pci"})
_OF_HOST: Final = frozenset(
    {
        "broken", "driver", "has_library", "mismatch", "permitted", "missing", "refuses",
        "shows_others",
    }
)  # fmt: skip


class OrderedHost:
    """The host, and the file that it reads its orders from."""

    def __init__(
        self, host: GpuHost, orders: Path | None, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Orders that are in the file already are obeyed at the first reading."""
        self.host = host
        self._orders, self._say = orders, say
        self._at = 0

    def obey(self) -> None:
        """Read what is new; a line without an end is left for the next time."""
        if self._orders is None:
            return
        try:
            with self._orders.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return
        whole = data.rfind(b"\n") + 1
        self._at += whole
        for line in data[:whole].splitlines():
            if line.strip():
                self._say(f"simulated GPUs: {line.decode(errors='replace')}: {self._do(line)}")

    def _do(self, line: bytes) -> str:
        try:
            order: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
            what = order.pop("do", None)
            if what == "gpu":
                return _set(self.host.gpus[order.pop("gpu")], order, _OF_GPU)
            if what == "host":
                return _set(self.host, order, _OF_HOST)
            if what not in _METHODS:
                return f"no such order; there are gpu, host, {', '.join(sorted(_METHODS))}"
            getattr(self.host, what)(**order)
        except Busy:
            return "busy: somebody has the driver open"
        except (msgspec.DecodeError, TypeError, IndexError, KeyError) as error:
            return f"not understood: {error}"
        return "done"


def _set(of: object, values: dict[str, Any], known: frozenset[str]) -> str:
    unknown = values.keys() - known
    if unknown:
        return f"no such attribute: {', '.join(sorted(unknown))}"
    for name, value in values.items():
        setattr(of, name, set(value) if isinstance(value, list) else value)
    return "done"
