"""The real secrets, behind the port of core."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from control_plane.core.errors import DeclarationError
from control_plane.core.findings import Finding, SourceRef
from control_plane.core.fleet import Device
from control_plane.core.ports import Secrets
from control_plane.core.rotation import refs_of
from control_plane.core.secret import Secret

_SECRET_KEPT_S = 5.0
"""Shorter than the back-off after a refused password: the look after that has the new one."""


class SystemSecrets:
    """Resolves `env:NAME` and `file:PATH` (whole file, one trailing newline stripped).

    Read again every few seconds, so that a rotated password, or one that was missing, is found.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Secret]] = {}

    def resolve(self, ref: str) -> Secret:
        """The secret behind a reference.

        Raises:
            DeclarationError: nothing there; the operator of this host acts.
        """
        now_s = time.monotonic()
        known = self._known.get(ref)
        if known is None or now_s - known[0] > _SECRET_KEPT_S:
            known = self._known[ref] = now_s, self._read(ref)
        return known[1]

    def _read(self, ref: str) -> Secret:
        scheme, _, rest = ref.partition(":")
        if scheme == "env" and rest in os.environ:
            return Secret(os.environ[rest])
        if scheme == "file":
            try:
                return Secret(Path(rest).read_text(encoding="utf-8").removesuffix("\n"))
            except OSError as error:
                raise self._missing(ref, error.strerror or "cannot be read") from None
            except ValueError:
                # Not chained: the error quotes the bytes.
                raise self._missing(ref, "leads to a file that is not UTF-8 text") from None
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


class MountedSecrets:
    """Resolves `env:NAME` to the file NAME of a folder: a pod's environment is no place for passwords."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, SystemSecrets()

    def resolve(self, ref: str) -> Secret:
        """The secret behind a reference.

        Raises:
            DeclarationError: nothing there; who fills the folder acts.
        """
        scheme, _, name = ref.partition(":")
        return self._files.resolve(f"file:{self._folder / name}" if scheme == "env" else ref)


def missing_secret(device: Device, error: DeclarationError) -> str:
    """Which reference leads nowhere, and where it is declared."""
    return f"{error.findings[0].what} ({device.intent.origins.get('credentials', 'built in')})"


def missing_secrets(devices: Iterable[Device], secrets: Secrets) -> list[str]:
    """The references of managed devices that lead nowhere on this host, each once."""
    asked: set[tuple[str, str]] = set()
    missing = set()
    for device in devices:
        credentials = device.intent.credentials
        if credentials is None or not device.is_managed:
            continue
        for ref in refs_of(credentials):
            key = (ref, device.intent.profile)
            if key in asked:
                continue
            asked.add(key)
            try:
                secrets.resolve(ref)
            except DeclarationError as error:
                missing.add(missing_secret(device, error))
    return sorted(missing)
