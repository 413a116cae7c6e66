"""LuxOS's replies as they come off the wire: only what is read of them, and nothing believed yet.

An honest reply of 4 KiB is decoded straight into these rows: what nobody reads is skipped, which costs a
third of taking it all. Every value is still anything; `luxos_reads` says what it means. A reply that does
not fit is taken apart piece by piece, so that one odd piece leaves the others readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import field

from control_plane.core.errors import UnexpectedReply
from control_plane.drivers.driver import Reply, decode_reply, text_of, whole_of

_MARK: Final = "luxminer"
"""What every `Description` begins with."""
_GOOD: Final = ("S", "I", "W")


class Status(msgspec.Struct, gc=False):
    """What a reply says of itself."""

    letter: Any = field(default=None, name="STATUS")
    code: Any = field(default=None, name="Code")
    message: Any = field(default=None, name="Msg")
    description: Any = field(default=None, name="Description")


class SummaryRow(msgspec.Struct, gc=False):
    """Of `summary`."""

    rate_ghs: Any = field(default=None, name="GHS 5s")
    elapsed_s: Any = field(default=None, name="Elapsed")
    accepted: Any = field(default=None, name="Accepted")
    rejected: Any = field(default=None, name="Rejected")


class DevRow(msgspec.Struct, gc=False):
    """Of `devs`: one board."""

    slot: Any = field(default=None, name="ID")
    rate_mhs: Any = field(default=None, name="MHS 5s")
    board_c: Any = field(default=None, name="Temperature")
    status: Any = field(default=None, name="Status")
    is_ramping: Any = field(default=None, name="IsRamping")
    is_shut_down: Any = field(default=None, name="IsUserShutdown")


class PowerRow(msgspec.Struct, gc=False):
    """Of `power`."""

    watts: Any = field(default=None, name="Watts")


class FanRow(msgspec.Struct, gc=False):
    """Of `fans`."""

    rpm: Any = field(default=None, name="RPM")


class ConfigRow(msgspec.Struct, gc=False):
    """Of `config`."""

    mac: Any = field(default=None, name="MACAddr")
    serial: Any = field(default=None, name="SerialNumber")
    model: Any = field(default=None, name="Model")
    curtailed: Any = field(default=None, name="CurtailMode")
    profile: Any = field(default=None, name="Profile")
    step: Any = field(default=None, name="ProfileStep")
    has_atm: Any = field(default=None, name="IsAtmEnabled")
    dhcp: Any = field(default=None, name="DHCP")


class PoolRow(msgspec.Struct, gc=False):
    """Of `pools`."""

    number: Any = field(default=None, name="POOL")
    group: Any = field(default=None, name="GROUP")
    rank: Any = field(default=None, name="Priority")
    url: Any = field(default=None, name="URL")
    worker: Any = field(default=None, name="User")
    status: Any = field(default=None, name="Status")


class VersionRow(msgspec.Struct, gc=False):
    """Of `version`."""

    luxminer: Any = field(default=None, name="LUXminer")


class ProfileRow(msgspec.Struct, gc=False):
    """Of `profiles`."""

    name: Any = field(default=None, name="Profile Name")
    step: Any = field(default=None, name="Step")


class AtmRow(msgspec.Struct, gc=False):
    """Of `atm`."""

    enabled: Any = field(default=None, name="Enabled")
    lowest: Any = field(default=None, name="MinProfile")
    lowest_step: Any = field(default=None, name="MinProfileStep")
    highest: Any = field(default=None, name="MaxProfile")
    highest_step: Any = field(default=None, name="MaxProfileStep")


class ChipsRow(msgspec.Struct, gc=False):
    """Of `devdetails`."""

    slot: Any = field(default=None, name="ID")
    chips: Any = field(default=None, name="Chips")


class SessionRow(msgspec.Struct, gc=False):
    """Of `logon`."""

    session: Any = field(default=None, name="SessionID")


class Answer(msgspec.Struct, gc=False):
    """One command's reply: what it says of itself, and in the parts below the rows that it names."""

    status: list[Status] = field(default_factory=list, name="STATUS")


P = TypeVar("P", bound=Answer)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Listing(Protocol[R_co]):
    """A part with rows of one kind."""

    @property
    def status(self) -> list[Status]:
        """What it says of itself."""
        ...

    @property
    def rows(self) -> Sequence[R_co] | None:
        """What it lists; `None` where it lists nothing at all."""
        ...


class Summary(Answer, gc=False):
    """The reply to `summary`."""

    rows: list[SummaryRow] | None = field(default=None, name="SUMMARY")


class Devs(Answer, gc=False):
    """The reply to `devs`."""

    rows: list[DevRow] | None = field(default=None, name="DEVS")


class Power(Answer, gc=False):
    """The reply to `power`."""

    rows: list[PowerRow] | None = field(default=None, name="POWER")


class Fans(Answer, gc=False):
    """The reply to `fans`."""

    rows: list[FanRow] | None = field(default=None, name="FANS")


class Config(Answer, gc=False):
    """The reply to `config`."""

    rows: list[ConfigRow] | None = field(default=None, name="CONFIG")


class Pools(Answer, gc=False):
    """The reply to `pools`."""

    rows: list[PoolRow] | None = field(default=None, name="POOLS")


class Version(Answer, gc=False):
    """The reply to `version`."""

    rows: list[VersionRow] | None = field(default=None, name="VERSION")


class Profiles(Answer, gc=False):
    """The reply to `profiles`."""

    rows: list[ProfileRow] | None = field(default=None, name="PROFILES")


class Atm(Answer, gc=False):
    """The reply to `atm`."""

    rows: list[AtmRow] | None = field(default=None, name="ATM")


class Devdetails(Answer, gc=False):
    """The reply to `devdetails`."""

    rows: list[ChipsRow] | None = field(default=None, name="DEVDETAILS")


class Logon(Answer, gc=False):
    """The reply to `logon`."""

    rows: list[SessionRow] | None = field(default=None, name="SESSION")


class Joined(Answer, gc=False):
    """The reply to joined commands: a list of one for each; `status` is there where they are not joined."""

    summary: list[Summary] = []
    devs: list[Devs] = []
    power: list[Power] = []
    fans: list[Fans] = []
    config: list[Config] = []
    pools: list[Pools] = []
    version: list[Version] = []
    profiles: list[Profiles] = []
    atm: list[Atm] = []
    devdetails: list[Devdetails] = []


_KINDS: Final[dict[str, type[Answer]]] = {
    "summary": Summary,
    "devs": Devs,
    "power": Power,
    "fans": Fans,
    "config": Config,
    "pools": Pools,
    "version": Version,
    "profiles": Profiles,
    "atm": Atm,
    "devdetails": Devdetails,
}
_decode: Final = msgspec.json.Decoder(Joined).decode


def read_joined(data: bytes, names: Sequence[str], what: str) -> Joined:
    """Decode the reply to joined commands.

    Raises:
        UnexpectedReply, OversizedReply: as `decode_reply`.
    """
    try:
        return _decode(data.rstrip(b"\0"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _piece_by_piece(decode_reply(data, what), names)


def _piece_by_piece(reply: Reply, names: Sequence[str]) -> Joined:
    joined = Joined()
    told = convert({"STATUS": reply.get("STATUS", [])}, Answer)
    joined.status = [] if told is None else told.status
    for name in names:
        listed = reply.get(name)
        part = convert(listed[0], _KINDS[name]) if isinstance(listed, list) and listed else None
        setattr(joined, name, [] if part is None else [part])
    return joined


def convert(value: object, kind: type[P]) -> P | None:
    """A decoded reply as one of these; `None` where it does not fit."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def read_one(data: bytes, kind: type[P], what: str) -> P:
    """Decode the reply to one command, be it a success or an error.

    Raises:
        UnexpectedReply, OversizedReply: as `decode_reply`, or no reply of this kind.
    """
    part = convert(decode_reply(data, what), kind)
    if part is None:
        raise UnexpectedReply(f"{what}: not a reply to that")
    return part


def row_of(found: Sequence[Listing[R]], joined: Joined, what: str) -> R:
    """The only row of a part that a look cannot do without.

    Raises:
        UnexpectedReply: it is not there, it is an error, or other firmware answers.
    """
    if not found:
        # Who does not join answers with one `STATUS` for all.
        raise UnexpectedReply(f"{what}: {told(joined.status)}")
    check(found[0].status, what)
    if not found[0].rows:
        raise UnexpectedReply(f"{what}: nothing in the reply")
    return found[0].rows[0]


def rows_of(found: Sequence[Listing[R]]) -> Sequence[R] | None:
    """The rows of a part that may be missing; `None` where it is, or is an error."""
    if found and found[0].status and found[0].status[0].letter in _GOOD:
        return found[0].rows
    return None


def check(statuses: Sequence[Status], what: str) -> None:
    """Refuse errors and the replies of other firmware.

    Raises:
        UnexpectedReply: it is one.
    """
    status = statuses[0] if statuses else Status()
    description = status.description
    if not isinstance(description, str) or description[:8].lower() != _MARK:
        raise UnexpectedReply(f"{what}: not LuxOS ({text_of(description) or told(statuses)})")
    if status.letter not in _GOOD:
        raise UnexpectedReply(f"{what}: {told(statuses)}")


def told(statuses: Sequence[Status]) -> str:
    """The device's own words: code and text."""
    status = statuses[0] if statuses else Status()
    message = text_of(status.message) or "no status"
    code = whole_of(status.code)
    return message if code is None else f"code {code}: {message}"
