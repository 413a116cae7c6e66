"""The real clock and the real secrets, behind the ports of core."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from control_plane.core.errors import DeclarationError
from control_plane.core.findings import Finding, SourceRef
from control_plane.core.secret import Secret


class SystemClock:
    """Real time; with a scale above 1 policy time runs faster than wire time, for simulations only.

    Args:
        scale: policy seconds per real second.
        epoch_s: the real moment at which both read the same: every process of one simulation uses
            the same pair, so that their policy times agree.
    """

    def __init__(self, *, scale: float = 1.0, epoch_s: float = 0.0) -> None:
        self._scale = scale
        self._epoch_s = epoch_s

    def wall_s(self) -> float:
        """Policy seconds since the epoch."""
        now = time.time()
        return now if self._scale == 1.0 else self._epoch_s + (now - self._epoch_s) * self._scale

    def wire_s(self) -> float:
        """Monotonic wire seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep policy seconds."""
        await asyncio.sleep(seconds / self._scale)

    async def wire_sleep(self, seconds: float) -> None:
        """Sleep wire seconds."""
        await asyncio.sleep(seconds)

    def wire_of(self, policy_s: float) -> float:
        """Wire seconds of a stretch of policy time."""
        return policy_s / self._scale


class SystemSecrets:
    """Resolves `env:NAME` and `file:PATH` (whole file, one trailing newline stripped); caches in memory."""

    def __init__(self) -> None:
        self._known: dict[str, Secret] = {}

    def resolve(self, ref: str) -> Secret:
        """The secret behind a reference.

        Raises:
            DeclarationError: nothing there; the operator of this host acts.
        """
        if ref not in self._known:
            self._known[ref] = self._read(ref)
        return self._known[ref]

    def _read(self, ref: str) -> Secret:
        scheme, _, rest = ref.partition(":")
        if scheme == "env" and rest in os.environ:
            return Secret(os.environ[rest])
        if scheme == "file":
            try:
                return Secret(Path(rest).read_text(encoding="utf-8").removesuffix("\n"))
            except OSError as error:
                raise self._missing(ref, error.strerror or "cannot be read") from error
        raise self._missing(ref, "is not set" if scheme == "env" else "has an unknown scheme")

    @staticmethod
    def _missing(ref: str, what: str) -> DeclarationError:
        return DeclarationError(
            [
                Finding(
                    code="E0790",
                    where=SourceRef(ref),
                    what=f"secret reference {ref} {what}",
                    fix="set it where gridplane runs; the password itself never stands in the inventory",
                )
            ]
        )
