"""An offline bundle: a folder with `bundle.json` and what it names, for machines that fetch nothing."""

from __future__ import annotations

import posixpath
from typing import Final

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.hosts.items import Payload

MANIFEST: Final = "bundle.json"
FORM: Final = 1
_KINDS: Final = ("file", "tree", "image")


class BadBundle(ControlPlaneError):
    """A bundle's manifest cannot be used. Whoever made the bundle acts."""


class Supply(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One file of an offline bundle: what it is and where it goes, not where the bundle lies."""

    name: str
    file: str
    """Below the bundle's folder."""
    kind: str
    """`file`, `tree` or `image`, as `Payload` has it."""
    sha256: str
    target: str = "/"
    mode: int = 0o755
    wakes: tuple[str, ...] = ()
    """Units that run it, restarted where it changes."""
    servers_only: bool = False

    def at(self, folder: str) -> Payload:
        """The payload, from a bundle that lies in a folder of this machine."""
        return Payload(
            name=self.name,
            kind=self.kind,
            source=f"{folder}/{self.file}",
            sha256=self.sha256,
            target=self.target,
            mode=self.mode,
            wakes=self.wakes,
        )


class Bundle(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The manifest."""

    form: int
    """Of the manifest; this release reads 1."""
    kubernetes: str
    """The release that the programs and images are of, `1.36.3`."""
    supplies: tuple[Supply, ...]
    """In the order in which they are brought."""


def read_bundle(text: bytes, path: str) -> Bundle:
    """The manifest.

    Args:
        text: its bytes.
        path: how errors name it.

    Raises:
        BadBundle: it is no manifest, is of another form, or names something outside of its folder.
    """
    try:
        bundle = msgspec.json.decode(text, type=Bundle)
    except msgspec.DecodeError as error:
        raise BadBundle(f"{path}: {error}: make the bundle anew") from error
    if bundle.form != FORM:
        raise BadBundle(f"{path} is of form {bundle.form}; this release reads {FORM}: make it anew")
    names = [supply.name for supply in bundle.supplies]
    for supply in bundle.supplies:
        file = posixpath.normpath(supply.file)
        if file.startswith(("/", "..")):
            raise BadBundle(f"{path}: {supply.name} is at {supply.file}, outside of the bundle")
        if supply.kind not in _KINDS:
            raise BadBundle(
                f"{path}: {supply.name} is a {supply.kind}; known are {', '.join(_KINDS)}"
            )
        if names.count(supply.name) > 1:
            raise BadBundle(f"{path}: {supply.name} stands twice")
    return bundle


def write_bundle(bundle: Bundle) -> bytes:
    """The manifest as a file."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=2) + b"\n"
