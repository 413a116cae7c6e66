"""What a lab's folder remembers of it, in `lab.json`; written last, so that a half-made lab has none."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.lab import pki

_FILE = "lab.json"


class LabError(ControlPlaneError):
    """The lab cannot come up, or is not what its folder says. The operator acts."""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Where the programs of an `api` lab listen, all on loopback."""

    etcd: int
    etcd_peer: int
    api: int
    controller_manager: int
    scheduler: int
    kwok: int


class ApiRecord(msgspec.Struct, frozen=True, kw_only=True, tag="api", tag_field="form"):
    """A lab without hosts."""

    ports: Ports
    version: int = 1


class HostRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a lab."""

    name: str
    number: int
    """From 1; names its cable and the network of its pods."""
    address: str
    role: str
    """`server` and `agent` are in the cluster, a `bare` host has sshd and nothing else."""

    @property
    def pods(self) -> str:
        """The network of its pods."""
        return f"10.244.{self.number}.0/24"

    @property
    def is_bare(self) -> bool:
        """Whether only sshd runs on it."""
        return self.role == "bare"


class ClusterRecord(msgspec.Struct, frozen=True, kw_only=True, tag="cluster", tag_field="form"):
    """A lab of hosts."""

    site: str
    inventory: str
    port: int
    """Of loopback: leads to the API server."""
    hosts: tuple[HostRecord, ...]
    devices: tuple[str, ...]
    """CIDRs at which simulated devices answer, and the store."""
    store: str | None = None
    """URL of the firmware images that the lab serves."""
    version: int = 1


Record = ApiRecord | ClusterRecord
Form = TypeVar("Form", ApiRecord, ClusterRecord)
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def read(folder: Path) -> Record | None:
    """What stands in the folder; `None` where nothing was set up to its end.

    Raises:
        LabError: it cannot be read.
    """
    path = folder / _FILE
    try:
        return _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, OSError) as error:
        raise LabError(
            f"{path} cannot be read ({error}): `gridplane lab down` clears the folder, then `up` again"
        ) from error


def read_as(folder: Path, form: type[Form]) -> Form | None:
    """What stands in the folder; `None` where nothing was set up to its end.

    Raises:
        LabError: it cannot be read, or is of another form.
    """
    record = read(folder)
    if record is None or isinstance(record, form):
        return record
    raise LabError(f"{folder} holds a lab of another form: `gridplane lab down` ends it")


def write(folder: Path, record: Record) -> None:
    """Either the old record or the new one, never a part."""
    fresh = folder / f"{_FILE}.new"
    pki.write_private(fresh, msgspec.json.encode(record))
    fresh.replace(folder / _FILE)
