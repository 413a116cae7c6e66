"""What a WhatsMiner's replies mean. Pure: replies in, values out.

Two envelopes: the mining process answers like cgminer (a list under `STATUS`, the data beside it),
the API daemon with `Code` and `Msg`, which holds text or an object. Keys and units: WhatsMiner API
v2.0.5, recorded summaries of M30S and M30S+ (pyasic issue 22) and `status` of four firmwares
(asic-rs). What is missing or odd is `None`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from control_plane.core.errors import UnexpectedReply
from control_plane.core.observation import (
    Activity,
    Board,
    Field,
    Identity,
    Settings,
    Telemetry,
)
from control_plane.drivers.antminer_reads import check_status
from control_plane.drivers.driver import Reply, mac_of, positive_of, rows, text_of, whole_of

if TYPE_CHECKING:
    from control_plane.core.fleet import StaticNetwork

FAMILY: Final = "whatsminer_v2"
MODES: Final = frozenset({"low", "normal", "high"})

OK, TOKEN_OK = 131, 134
UNKNOWN_COMMAND, UNDECIPHERABLE, NO_WRITES = 14, 23, 45
FAILED, BAD_TOKEN, TOO_MANY, NOT_BASE64 = 132, 135, 136, 137
NO_MINER: Final = b"Socket connect failed"
"""Plain text for every command of the mining process while that restarts (pyasic)."""

STARTING_S: Final = 900.0
"""From a start of the mining process to full hash: 8–10 min at upfreq speed 5–6 (WMC), more at the
factory's 0: that line drawn on gives 14.5 min."""
_THS: Final = 1e-6
"""All rates are in MH/s."""
_MAX_BOARDS: Final = 16
_MAX_ERRORS: Final = 16
_CODE: Final = re.compile(rb'"(\d{1,7})"\s*:\s*"[^"]{0,40}"')
_TELLS_MINING: Final = frozenset({Field.MINING})


class Summary(NamedTuple):
    """One `summary` reply, and `devs` where it came along."""

    telemetry: Telemetry
    mining: bool | None
    power_mode: str | None
    limit_in_force_w: int | None
    asked: frozenset[Field]
    """What this build's summary can tell: whether settings permit hashing, or nothing."""


STARTING: Final = Summary(Telemetry(activity=Activity.STARTING), None, None, None, frozenset())
"""The look while nobody listens behind the API: it lives, and starts."""


# -- the mining process --------------------------------------------------------------------------------


def read_summary(reply: Reply, devs: Reply | None, what: str) -> Summary:
    """Read `summary`, with the boards from `devs`.

    Raises:
        UnexpectedReply: an error, another firmware's reply, or no summary in it.
    """
    check_status(reply, what)
    entries = rows(reply.get("SUMMARY"))
    if not entries:
        raise UnexpectedReply(f"{what}: no SUMMARY in the reply")
    row = entries[0]
    rate = _rate(row)
    elapsed = positive_of(row.get("Elapsed"))
    limit = whole_of(row.get("Power Limit"))
    # 0 is printed while powered off and only then (MDK; field notes of an M60).
    mining = None if limit is None else limit > 0
    telemetry = Telemetry(
        hashrate_ths=rate,
        power_w=positive_of(row.get("Power")),
        temperature_c=_heat(row.get("Chip Temp Max")) or _heat(row.get("Temperature")),
        fan_rpm=tuple(
            [
                rpm
                for rpm in (
                    whole_of(row.get("Fan Speed In")),
                    whole_of(row.get("Fan Speed Out")),
                )
                if rpm is not None
            ]
        ),
        boards=() if devs is None else _boards(devs),
        uptime_s=positive_of(row.get("Uptime")),
        mining_uptime_s=elapsed,
        activity=_activity(rate, elapsed, whole_of(row.get("Upfreq Complete")), mining=mining),
        accepted=whole_of(row.get("Accepted")),
        rejected=whole_of(row.get("Rejected")),
    )
    return Summary(
        telemetry,
        mining,
        mode_of(row.get("Power Mode")),
        limit or None,
        frozenset() if mining is None else _TELLS_MINING,
    )


def read_model(reply: Reply | None) -> str | None:
    """The type that `devdetails` prints, e.g. `M60S_VK30`."""
    details = rows(reply.get("DEVDETAILS")) if reply is not None else []
    return text_of(details[0].get("Model")) if details else None


def mode_of(value: object) -> str | None:
    """A step of the ladder from the device's word for it; `None` for blank and unknown words."""
    word = (text_of(value) or "").lower()
    return word if word in MODES else None


def _boards(reply: Reply) -> tuple[Board, ...]:
    return tuple(
        [
            Board(
                slot=-1 if (slot := whole_of(row.get("Slot", row.get("ASC")))) is None else slot,
                hashrate_ths=_rate(row),
                chips=whole_of(row.get("Effective Chips")),
                temperature_c=_heat(row.get("Chip Temp Max")) or _heat(row.get("Temperature")),
            )
            for row in rows(reply.get("DEVS"))[:_MAX_BOARDS]
        ]
    )


def _rate(row: Reply) -> float | None:
    # `HS RT` trails by minutes: it equals `MHS 5m` in both recorded replies.
    rate = positive_of(row["MHS 5s"] if "MHS 5s" in row else row.get("HS RT"))
    return None if rate is None else rate * _THS


def _heat(value: object) -> float | None:
    """Degrees; a board without a sensor prints 0."""
    return positive_of(value) or None


def _activity(
    rate: float | None, elapsed: float | None, upfreq: int | None, *, mining: bool | None
) -> Activity | None:
    """What it does by its own evidence: hash decides over settings."""
    if rate is None:
        return None
    if rate > 0.0:
        return Activity.STARTING if upfreq == 0 and mining is not False else Activity.HASHING
    if mining is False:
        return Activity.SLEEPING
    if elapsed is not None and elapsed < STARTING_S:
        return Activity.STARTING
    # Without the limit in force nothing tells an idle unit from one that is powered off.
    return None if mining is None else Activity.IDLE


# -- the daemon ----------------------------------------------------------------------------------------


def body_of(reply: Reply, what: str) -> Reply:
    """The object under `Msg` of a daemon's reply.

    Raises:
        UnexpectedReply: an error, or text where an object belongs.
    """
    code, body = whole_of(reply.get("Code")), reply.get("Msg")
    if code not in {OK, TOKEN_OK} or not isinstance(body, dict):
        raise UnexpectedReply(f"{what}: {told(reply)}")
    return body


def told(reply: Reply) -> str:
    """The device's own words: code and text."""
    message = text_of(reply.get("Msg")) or "no text"
    code = whole_of(reply.get("Code"))
    return message if code is None else f"code {code}: {message}"


def read_identity(body: Reply, model: str | None = None) -> Identity:
    """Read `get_miner_info`.

    Raises:
        UnexpectedReply: it tells no MAC, so nobody knows who answers.
    """
    mac = mac_of(body.get("mac"))
    if mac is None:
        raise UnexpectedReply("get_miner_info names no MAC")
    serial = text_of(body.get("minersn"))
    return Identity(mac=mac, serial=serial, make="MicroBT", model=model, family=FAMILY)


def read_addressing(body: Reply) -> str | None:
    """`static` or `dhcp`, from `get_miner_info`."""
    word = (text_of(body.get("proto")) or "").lower()
    return word if word in {"static", "dhcp"} else None


def network_arguments(body: Reply, network: StaticNetwork) -> dict[str, str]:
    """What `net_config` wants of a static address: all of it, and the host name that `get_miner_info` told.

    Names: pyasic, and Tether's WhatsMiner worker, which also puts blanks between the DNS servers.

    Raises:
        UnexpectedReply: the host name cannot be read.
    """
    host = body.get("hostname")
    if not isinstance(host, str):
        raise UnexpectedReply("get_miner_info does not tell the host name")
    return {
        "ip": network.address,
        "mask": network.netmask,
        "gate": network.gateway,
        "dns": " ".join(network.dns),
        "host": host,
    }


class Status(NamedTuple):
    """`status`: settings as they were asked for."""

    mining: bool | None
    power_mode: str | None
    limit_w: int | None
    firmware: str | None


UNREAD: Final = Status(None, None, None, None)


def is_object(buffer: bytearray, eof: bool) -> bool:  # noqa: FBT001 — the port's own signature
    """The framing of a reply on a connection that stays open: one flat object, here a sealed one."""
    return buffer.rstrip(b"\0").endswith(b"}") or (eof and len(buffer) > 0)


def read_status(body: Reply) -> Status:
    """Read `status`; older firmware calls the first key `btmineroff` (API v2.0.3)."""
    off = body.get("mineroff", body.get("btmineroff"))
    word = str(off).strip().lower()
    firmware = body.get("FirmwareVersion", body.get("Firmware Version"))
    return Status(
        mining={"true": False, "false": True}.get(word),
        power_mode=mode_of(body.get("power_mode")),
        limit_w=whole_of(body.get("power_limit_set")) or None,
        firmware=text_of(firmware),
    )


def settings_of(summary: Summary, status: Status) -> Settings:
    """Settings as they are configured; the running value where nobody ever configured one.

    `status` comes first: `summary` shows what runs, which a limit above the mode's own watts never
    is, and keeps a stale mode after a limit was set (asic-rs). Firmware of 2023.08 tells no limit
    in `status`: there one above the mode's own watts reads as those.
    """
    limit_w = status.limit_w
    return Settings(
        mining=status.mining,
        power_mode=status.power_mode or summary.power_mode,
        power_limit_w=summary.limit_in_force_w if limit_w is None else limit_w,
        firmware=status.firmware,
    )


def read_errors(data: bytes) -> tuple[str, ...]:
    """The codes of `get_error_code`, in whichever form.

    Firmware of 2023 prints `["530":"<time>"]`, which no JSON parser takes, so the pairs are picked
    out of the text.
    """
    _, _, listed = data.partition(b'"error_code"')
    return tuple([code.decode() for code in _CODE.findall(listed)][:_MAX_ERRORS])
