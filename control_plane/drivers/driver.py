"""What every driver needs: bounded decoding, canonical values, one exchange, errors as outcomes.

A driver is a class with `capabilities`, `identify`, `observe` and `apply` (`core.ports.Driver`) and
one line in `registry`. How to add one: docs/how-to/add-a-driver.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from control_plane.core import limits
from control_plane.core.change import Failed, InProgress
from control_plane.core.errors import (
    AuthRejected,
    ControlPlaneError,
    OversizedReply,
    UnexpectedReply,
    WrongIdentity,
)
from control_plane.core.observation import PoolSetting

if TYPE_CHECKING:
    from control_plane.core.change import FirmwareWays, PasswordWays
    from control_plane.core.observation import Identity
    from control_plane.core.ports import BmcTarget, ImageFile, Net, Target
    from control_plane.core.secret import Secret

Reply = dict[str, Any]
"""A JSON object that a device sent: its keys are the vendor's, its values may be anything."""

_TEXT_CHARS: Final = 200
_URL_CHARS: Final = 512
_HUGE: Final = 1e300
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_NUMBER: Final = re.compile(
    rb"([:,\[]\s*)[-+]?(?:nan|inf(?:inity)?)(?=\s*[,\]}])", re.IGNORECASE
)
_RAW_MAC: Final = re.compile(r"[0-9a-f]{12}")
_RAW_CONTROL: Final = bytes.maketrans(bytes(range(1, 32)), b" " * 31)
_MAC: Final = re.compile(r"[0-9a-f]{12}")
_MAC_MARKS: Final = str.maketrans("", "", ":-. ")

_decode: Final = msgspec.json.Decoder().decode


# -- replies -----------------------------------------------------------------------------------------


def decode_reply(data: bytes, what: str, *, private: bool = False) -> Reply:
    """Decode a JSON object of at most `REPLY_MAX_DEPTH` levels, mending what devices get wrong.

    Mended: NULs at the end or between, a missing comma between objects, control characters inside
    texts, `nan` and `inf`. Not mended: a reply that is cut short; half of the truth is not the truth.

    Args:
        data: the whole reply, already within the cap on bytes.
        what: names the exchange in errors, e.g. `10.8.0.1 stats`.
        private: a config, which holds passwords: errors quote nothing of it.

    Raises:
        UnexpectedReply: not a JSON object.
        OversizedReply: deeper than honest replies are.
    """
    data = data.rstrip(b"\0")
    _check_depth(data, what, private=private)
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            mended = _mended(data)
            _check_depth(mended, what, private=private)
            value = _decode(mended)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UnexpectedReply(f"{what}: not JSON: {_quoted(data, private=private)}") from None
    if not isinstance(value, dict):
        raise UnexpectedReply(f"{what}: not a JSON object: {_quoted(data, private=private)}")
    return value


def _mended(data: bytes) -> bytes:
    data = data.translate(_RAW_CONTROL, b"\0").replace(b"}{", b"},{")
    return _NO_NUMBER.sub(rb"\1null", data)


def _check_depth(data: bytes, what: str, *, private: bool) -> None:
    """Peel the bare brackets, one level per pass; texts are cut out only where something is left."""
    if data.count(b"[") + data.count(b"{") <= limits.REPLY_MAX_DEPTH:
        return  # So few cannot lie deeper, wherever they stand: nearly every honest reply.
    if not _left_after_peeling(data):
        return
    left = _left_after_peeling(_TEXT.sub(b"", data))
    if not left:
        return
    if left.count(b"[") == left.count(b"]"):
        raise OversizedReply(f"{what}: deeper than {limits.REPLY_MAX_DEPTH} levels")
    raise UnexpectedReply(f"{what}: not JSON: {_quoted(data, private=private)}")


def _left_after_peeling(data: bytes) -> bytes:
    bare = data.translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(limits.REPLY_MAX_DEPTH):
        if not bare:
            break
        bare = bare.replace(b"[]", b"")
    return bare


def _quoted(data: bytes, *, private: bool) -> str:
    return f"{len(data)} bytes" if private else excerpt(data)


def excerpt(data: bytes) -> str:
    """The beginning of a reply, for an error message."""
    return clean(data[:80].decode("utf-8", "replace")) or "nothing"


def rows(value: object) -> list[Reply]:
    """The objects of a list; empty for anything else."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


# -- values ------------------------------------------------------------------------------------------


def clean(text: str, chars: int = _TEXT_CHARS) -> str:
    """Text of a device that is safe to print: no control or invisible characters, bounded."""
    text = text[:chars]
    if not text.isprintable():
        text = "".join([char if char.isprintable() else " " for char in text])
    return text.strip()


def text_of(value: object) -> str | None:
    """A text that says something; `None` for blank, missing or another type."""
    return clean(value) or None if isinstance(value, str) else None


def number_of(value: object) -> float | None:
    """A finite number, also one that was sent as text; `None` for anything else."""
    if isinstance(value, str):
        try:
            value = float(value[:32])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def positive_of(value: object) -> float | None:
    """A finite number of zero or more."""
    if (type(value) is float or type(value) is int) and 0 <= value < _HUGE:
        return float(value)  # Thirty values a poll are this.
    number = number_of(value)
    return number if number is not None and number >= 0.0 else None


def whole_of(value: object) -> int | None:
    """A whole number of zero or more, also one that was sent as text."""
    if type(value) is int and value >= 0:
        return value
    number = positive_of(value)
    return int(number) if number is not None and number.is_integer() else None


def mac_of(value: object) -> str | None:
    """A MAC address in lower case with colons; `None` where it is none, or all zeros."""
    if not isinstance(value, str):
        return None
    bare = value[:32].translate(_MAC_MARKS).lower()
    if not _MAC.fullmatch(bare) or not bare.strip("0"):
        return None
    return ":".join(bare[at : at + 2] for at in range(0, 12, 2))


# -- pools -------------------------------------------------------------------------------------------


def pool_url(url: str) -> str:
    """The canonical form of a pool URL, the same for what is declared and what devices print.

    Scheme present (`stratum+tcp` where there is none) and in lower case, host in lower case, no
    trailing slash. Nothing is invented or lost: no port is added, no path or key dropped.
    """
    url = clean(url, _URL_CHARS)
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "stratum+tcp", url
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.strip().lower()}{slash if path else ''}{path}"


def pools_of(slots: Iterable[tuple[object, object]]) -> tuple[PoolSetting, ...] | None:
    """Pools from pairs of URL and worker in priority order, blank slots left out.

    `None` (unreadable) where a slot is not text: what cannot be read is not empty.
    """
    found = []
    for url, worker in slots:
        if not isinstance(url, str) or not isinstance(worker, str):
            return None
        if url.strip():
            found.append(PoolSetting(url=pool_url(url), worker=clean(worker)))
    return tuple(found)


# -- exchanges ---------------------------------------------------------------------------------------


def ends_in_nul(buffer: bytearray, eof: bool) -> bool:  # noqa: FBT001 — the port's own signature
    """The framing of cgminer: a NUL, or the end of the connection after at least one byte."""
    return buffer.endswith(b"\0") or (eof and len(buffer) > 0)


async def ask(
    net: Net,
    address: str,
    port: int,
    payload: bytes,
    *,
    complete: Callable[[bytearray, bool], bool] = ends_in_nul,
    deadline_s: float = limits.REPLY_DEADLINE_S,
) -> bytes:
    """One connection, one request, one reply: the hot path.

    Raises:
        Unreachable, OversizedReply: as the port `Net`.
    """
    connection = await net.connect(address, port, deadline_s=limits.CONNECT_DEADLINE_S)
    try:
        return await connection.request(
            payload, complete=complete, deadline_s=deadline_s, max_bytes=limits.REPLY_MAX_BYTES
        )
    finally:
        connection.close()


# -- images ------------------------------------------------------------------------------------------

_PIECE_BYTES: Final = 64 * 1024
_UPLOAD_LEAST_S: Final = 60.0


def pieces_of(file: ImageFile) -> Iterator[bytes]:
    """An image, piece by piece: nobody holds the whole of it."""
    for offset in range(0, file.image.size_bytes, _PIECE_BYTES):
        yield file.read(offset, _PIECE_BYTES)


def upload_s(size_bytes: int, ways: FirmwareWays) -> float:
    """Wire seconds after which an upload is given up."""
    return _UPLOAD_LEAST_S + size_bytes / ways.bytes_per_s


# -- passwords ---------------------------------------------------------------------------------------


def fits(ways: PasswordWays, new: Secret) -> bool:
    """Whether a family's devices take a password for sure: one that they cut short locks everybody out."""
    return re.fullmatch(ways.pattern, new.reveal()) is not None


def unfit(ways: PasswordWays) -> Failed:
    """The outcome where it does not; of the password itself nothing is said."""
    return Failed(f"the new password does not fit: this family takes {ways.means}", retryable=False)


# -- outcomes ----------------------------------------------------------------------------------------


def check_identity(target: Target | BmcTarget, told: Identity) -> None:
    """What stands right before every write, in its own session: the pinned machine answers.

    Raises:
        WrongIdentity: another one does, or nobody can tell.
    """
    pin = target.pin
    if pin is None:
        raise WrongIdentity(f"{target.address}: no identity is pinned")
    if not pin.matches(told):
        who = told.mac or told.serial or "a machine without a name"
        raise WrongIdentity(f"{target.address}: {who} answers, {pin.mac or pin.serial} is pinned")


def not_written(error: ControlPlaneError) -> Failed:
    """The outcome of an error before anything was written. Refused credentials wait for a person."""
    return Failed(clean(str(error)), retryable=not isinstance(error, AuthRejected))


def maybe_written(error: ControlPlaneError, *, check_after_s: float) -> InProgress:
    """The outcome of an error after the write left: nobody knows, so look again."""
    return InProgress(check_after_s, clean(str(error)))
