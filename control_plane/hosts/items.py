"""What is wanted of a machine, as values: pure, compared by value, brought about by `converge`."""

from __future__ import annotations

import hashlib

import msgspec

STAMPS = "/var/lib/gridplane/stamps"
"""On a host: what was unpacked or imported there, by digest."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file with this content."""

    path: str
    content: str
    mode: int = 0o644
    wakes: tuple[str, ...] = ()
    """Units that read it at their start: restarted where they run and it changed."""
    is_shared: bool = False
    """Another manager goes on editing it (the GPU operator's toolkit edits containerd's). It is written where
    it is missing, or once what is declared here changes; edits of others stay."""

    @property
    def digest(self) -> str:
        """SHA-256 of its content, hex."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    @property
    def stamp(self) -> str:
        """Where the host keeps what of a shared file was written last."""
        return f"{STAMPS}/{self.path.strip('/').replace('/', '-')}"


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A systemd unit that starts at boot."""

    name: str
    is_running: bool = True
    """Whether it runs now, too; where not, it may."""


class Sysctl(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel setting, now; for the next boot there is a file."""

    key: str
    value: str


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Something large that lies on this machine, and is brought to the host once."""

    name: str
    kind: str
    """`file`: put at `target`. `tree`: a tar file, gzipped or not, unpacked below `target`. `image`: an
    archive of container images, gzipped or not, imported into containerd."""
    source: str
    """Path on this machine."""
    sha256: str
    """Of `source`, hex: what is compared, and what a host remembers."""
    target: str = "/"
    mode: int = 0o755
    wakes: tuple[str, ...] = ()

    @property
    def stamp(self) -> str:
        """Where the host keeps the digest of what it got."""
        return f"{STAMPS}/{self.name}"


Item = File | Unit | Sysctl | Payload
