"""Log lines: for a terminal, or one JSON object each for what collects them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Literal

import msgspec

from control_plane.engine.log import Level
from control_plane.views.table import one_line

Form = Literal["text", "json"]
OWN = ("time", "level", "site", "kind", "message")
"""In every JSON line; a field of that name is written with a `_` behind."""


class LogWriter:
    """Writes each thing as a line of its own, as soon as it is said."""

    def __init__(
        self,
        form: Form,
        *,
        site: str,
        write: Callable[[str], None],
        wall_s: Callable[[], float],
    ) -> None:
        """`write` takes one line, without its end."""
        self._form, self._site, self._write, self._wall_s = form, site, write, wall_s

    def __call__(
        self, message: str, /, *, level: Level = "info", kind: str = "controller", **fields: object
    ) -> None:
        """See `engine.log.Say`."""
        moment = dt.datetime.fromtimestamp(self._wall_s(), dt.UTC)
        time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._form == "json":
            line = dict(zip(OWN, (time, level, self._site, kind, message), strict=True)) | {
                f"{name}_" if name in OWN else name: value for name, value in fields.items()
            }
            # What JSON does not know is written as it prints; a `Secret` prints as ***.
            self._write(msgspec.json.encode(line, enc_hook=str).decode())
        else:
            more = "".join(f" {name}={value}" for name, value in fields.items())
            self._write(one_line(f"{time} {level:<7} {kind}: {message}{more}"))
