"""What a GPU host tells over SSH of its system, its GPU driver and the errors in its kernel's log.

It only reads, and is a second witness: NVML answers through the driver that is suspected; the kernel's log
and the bus do not. Sources: proc(5), sysfs, systemd's journal in JSON, lspci(8) `-mm`, NVIDIA's Xid guide for
the form of its lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from control_plane.core.errors import UnexpectedReply
from control_plane.core.gpu import XidEvent
from control_plane.hosts.connection import Command, Connection, heads

BOOT_ID = "/proc/sys/kernel/random/boot_id"
"""A new one with each boot of the kernel: the one evidence of a reboot that no clock can fake."""
DRIVER = "/sys/module/nvidia/version"
"""There while the driver's kernel part is loaded."""
_SERIAL = "/sys/class/dmi/id/product_serial"
_MODEL = "/sys/class/dmi/id/product_name"
_FILES = (
    BOOT_ID, DRIVER, _SERIAL, _MODEL, "/etc/os-release", "/proc/sys/kernel/osrelease",
    "/proc/meminfo", "/proc/uptime",
)  # fmt: skip
_HEAD = 4_096
"""Bytes of each file; none of them is longer where it matters."""
_NVIDIA, _DISPLAY = "10de", frozenset({"0300", "0302"})
"""PCI vendor, and the classes of its GPUs; its NVLink switches are of class 0680."""
_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\): (\d+)"
)
_XIDS: Command = (
    "journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=json",
    "--output-fields=MESSAGE", "--grep=NVRM: Xid",
)  # fmt: skip
_NONE_FOUND = 1
"""How journalctl ends where no line matches."""
_PLACEHOLDERS = frozenset(
    {"", "none", "not specified", "to be filled by o.e.m.", "default string", "0123456789"}
)
"""What makers leave in a serial's place."""


class HostFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One look at a host. What it did not tell is `None`."""

    boot_id: str
    uptime_s: float | None = None
    os: str | None = None
    kernel: str | None = None
    model: str | None = None
    serial: str | None = None
    """Of the board's firmware: `None` also where its maker left a placeholder."""
    memory_bytes: int | None = None
    driver: str | None = None
    """Version of the GPU driver that is loaded; `None`: none is."""
    gpus: tuple[str, ...] | None = None
    """Bus addresses of the GPUs that the PCI bus has, with or without a driver."""


def read_facts(connection: Connection) -> HostFacts:
    """Look at a host, with two commands.

    Raises:
        UnexpectedReply: it tells no boot id: this is no Linux, or nothing can be said about its reboots.
        DeadlinePassed: it does not answer in time.
    """
    told = heads(connection, _FILES, _HEAD)
    boot_id = told.get(BOOT_ID, "")
    if not boot_id:
        raise UnexpectedReply(f"host {connection.name} tells no boot id ({BOOT_ID})")
    bus = connection.run(("lspci", "-D", "-n", "-mm"))
    serial = told.get(_SERIAL, "")
    return HostFacts(
        boot_id=boot_id,
        uptime_s=_number(told.get("/proc/uptime", "")),
        os=_os_name(told.get("/etc/os-release", "")),
        kernel=told.get("/proc/sys/kernel/osrelease") or None,
        model=told.get(_MODEL) or None,
        serial=None if serial.casefold() in _PLACEHOLDERS else serial,
        memory_bytes=_memory(told.get("/proc/meminfo", "")),
        driver=told.get(DRIVER) or None,
        gpus=None if bus.code else tuple(_gpus(bus.out)),
    )


def read_xids(connection: Connection) -> tuple[XidEvent, ...]:
    """The driver's errors in the kernel's log since this boot, oldest first.

    Raises:
        UnexpectedReply: there is no journal, or it is not readable: nothing is known, and that is not "none".
        DeadlinePassed: as `read_facts`.
    """
    reply = connection.run(_XIDS)
    if reply.code == _NONE_FOUND and not reply.err.strip():
        return ()
    if reply.code:
        raise UnexpectedReply(
            f"host {connection.name}: its kernel's log cannot be read: {reply.err.strip()[:200]}"
        )
    return tuple(_events(connection.name, reply.out))


class _Line(msgspec.Struct):
    """One line of the journal."""

    at_us: str = msgspec.field(name="__REALTIME_TIMESTAMP")
    message: str = msgspec.field(name="MESSAGE")


def _events(host: str, text: str) -> Iterator[XidEvent]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            told = msgspec.json.decode(line, type=_Line)
            at_s = int(told.at_us) / 1e6
        except (msgspec.DecodeError, ValueError) as error:
            raise UnexpectedReply(
                f"host {host}: line {number} of its kernel's log is none of a journal: {error}"
            ) from error
        found = _XID.search(told.message)
        if found:
            yield XidEvent(at_s=at_s, xid=int(found[2]), gpu=_bus_address(found[1]))


def _bus_address(told: str) -> str:
    """As NVML writes it: a domain of eight digits, and a function."""
    domain, bus, device = told.split(":")
    return f"{domain:0>8}:{bus}:{device if '.' in device else f'{device}.0'}".upper()


def _gpus(text: str) -> Iterator[str]:
    """Lines of `lspci -D -n -mm`: address, class, vendor, device, ..., the last ones in quotes."""
    for line in text.splitlines():
        words = line.replace('"', "").split()
        if len(words) > 2 and words[1] in _DISPLAY and words[2] == _NVIDIA:  # noqa: PLR2004 - the third word
            yield _bus_address(words[0])


def _number(text: str) -> float | None:
    try:
        return float(text.partition(" ")[0])
    except ValueError:
        return None


def _os_name(text: str) -> str | None:
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'") or None
    return None


def _memory(text: str) -> int | None:
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["MemTotal:"] and len(words) > 1 and words[1].isdigit():
            return int(words[1]) * 1024
    return None
