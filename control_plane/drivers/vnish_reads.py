"""What VNish's replies mean. Pure: replies in, values out.

Keys and types: the firmware's swagger document; published replies of an S19 (1.2.6) and an S19j Pro
(1.2.0-rc3). Rates are GH/s on SHA-256 machines, chains count from 1, the makers' pool is of another
`pool_type`. What is missing or odd is `None`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from control_plane.core.errors import UnexpectedReply
from control_plane.core.observation import (
    Activity,
    Board,
    Identity,
    PoolSetting,
    Telemetry,
)
from control_plane.drivers.driver import (
    Reply,
    clean,
    mac_of,
    pools_of,
    positive_of,
    rows,
    text_of,
    whole_of,
)

FAMILY: Final = "vnish"
STARTING_S: Final = 600.0
"""From a start of the mining process to full hash: as stock (MinerWatch, S19 XP); no figure of VNish."""

_FULL_SHARE: Final = 0.9
_GHS: Final = 1e-3
_MAX_BOARDS: Final = 16
_MAX_FANS: Final = 16
_MAX_ERRORS: Final = 16
_FULL_THROTTLE: Final = 100
_USER_POOL: Final = "UserPool"
_UPTIME: Final = re.compile(r"\s*(?:(\d{1,5}) days?,?)?\s*(?:(\d{1,2}):(\d{2}))?\s*")

_STATES: Final[dict[str, tuple[bool | None, Activity]]] = {
    "mining": (True, Activity.HASHING),
    "auto-tuning": (True, Activity.TUNING),
    "initializing": (True, Activity.STARTING),
    "starting": (True, Activity.STARTING),
    "restarting": (True, Activity.STARTING),
    # On the way to a stop, a reboot or a restart: it does not say to which.
    "shutting-down": (None, Activity.SLEEPING),
    "stopped": (False, Activity.SLEEPING),
    # Named by asic-rs, not by the swagger document.
    "paused": (False, Activity.SLEEPING),
    # It gave up: settings permit mining, and nothing mines.
    "failure": (True, Activity.FAULT),
}
"""`miner_state` → whether settings permit hashing, and what it does if its figures do not deny it."""
_TELLS_UPTIME: Final = frozenset(
    {"mining", "auto-tuning", "initializing", "starting", "restarting"}
)


class Summary(NamedTuple):
    """One `/summary`."""

    telemetry: Telemetry
    mining: bool | None
    state: str | None
    pools: tuple[PoolSetting, ...] | None
    """What the mining process uses, by id; `None` where it cannot be told or workers are masked."""
    is_masked: bool
    """Workers are hidden from who has not unlocked."""


STARTING: Final = Summary(Telemetry(activity=Activity.STARTING), None, None, None, is_masked=False)
"""The look while the mining process cannot be asked: the control board lives."""


def read_summary(reply: Reply, what: str) -> Summary:
    """Read `/summary`.

    Raises:
        UnexpectedReply: it is another page.
    """
    miner = reply.get("miner")
    if miner is None and "miner" in reply:
        return STARTING
    if not isinstance(miner, dict) or not isinstance(miner.get("miner_status"), dict):
        raise UnexpectedReply(f"{what}: no miner in the summary")
    status = miner["miner_status"]
    state = text_of(status.get("miner_state"))
    rate = _ths(miner.get("hr_realtime"))
    state_s = positive_of(status.get("miner_state_time"))
    cooling = miner.get("cooling")
    fans = rows(cooling.get("fans") if isinstance(cooling, dict) else None)[:_MAX_FANS]
    chains = rows(miner.get("chains"))[:_MAX_BOARDS]
    boards = tuple([_board(chain) for chain in chains])
    users = [row for row in rows(miner.get("pools")) if row.get("pool_type") == _USER_POOL]
    mining, usual = _STATES.get(state or "", (None, None))
    telemetry = Telemetry(
        hashrate_ths=rate,
        power_w=positive_of(miner.get("power_consumption")),
        temperature_c=_heat(miner.get("chip_temp")),
        fan_rpm=tuple(
            [rpm for rpm in (whole_of(fan.get("rpm")) for fan in fans) if rpm is not None]
        ),
        boards=boards,
        mining_uptime_s=state_s if state in _TELLS_UPTIME else None,
        activity=_activity(usual, rate, _ths(miner.get("hr_nominal")), state_s),
        errors=_errors(status, chains, fans),
        accepted=_sum(users, "accepted"),
        rejected=_sum(users, "rejected"),
    )
    masked = any(_is_mask(row.get("user")) for row in users)
    listed = isinstance(miner.get("pools"), list)
    return Summary(
        telemetry, mining, state, None if masked or not listed else _pools(users), is_masked=masked
    )


def _board(chain: Reply) -> Board:
    place = whole_of(chain.get("id"))
    counts = chain.get("chip_statuses")
    chips = None
    if isinstance(counts, dict):
        told = [whole_of(counts.get(grade)) for grade in ("grey", "orange", "red")]
        chips = None if None in told else sum([count or 0 for count in told])
    return Board(
        slot=-1 if place is None else place - 1,
        hashrate_ths=_ths(chain.get("hashrate_rt")),
        chips=chips,
        temperature_c=_heat(chain.get("chip_temp")),
    )


def _activity(
    usual: Activity | None, rate: float | None, nominal: float | None, state_s: float | None
) -> Activity | None:
    """What it does: its word for it, unless its hash says otherwise."""
    if rate is None or usual is None:
        return usual
    if usual is Activity.SLEEPING:
        return Activity.HASHING if rate > 0.0 else usual
    if usual is Activity.HASHING:
        ramps = state_s is not None and state_s < STARTING_S
        if ramps and (rate <= 0.0 or (nominal is not None and rate < nominal * _FULL_SHARE)):
            return Activity.STARTING
        return usual if rate > 0.0 else Activity.IDLE
    return usual


def _errors(status: Reply, chains: list[Reply], fans: list[Reply]) -> tuple[str, ...]:
    found = []
    why = text_of(status.get("description"))
    code = whole_of(status.get("failure_code"))
    if why is not None or code is not None:
        found.append(f"{'' if code is None else f'{code}: '}{why or 'no text'}")
    throttled = whole_of(status.get("throttled"))
    if throttled is not None and throttled < _FULL_THROTTLE:
        found.append(f"throttled to {throttled} %")
    for chain in chains:
        state = chain.get("status")
        named = text_of(state.get("state")) if isinstance(state, dict) else None
        if isinstance(state, dict) and named in {"failure", "disconnected"}:
            told = text_of(state.get("description")) or named
            found.append(clean(f"chain {whole_of(chain.get('id'))}: {told}"))
    found += [f"fan {whole_of(fan.get('id'))}: lost" for fan in fans if fan.get("status") == "lost"]
    return tuple(found[:_MAX_ERRORS])


def _pools(users: list[Reply]) -> tuple[PoolSetting, ...] | None:
    ranks = [whole_of(row.get("id")) for row in users]
    if None in ranks:
        return None
    ranked = sorted(zip((rank or 0 for rank in ranks), range(len(users)), users, strict=True))
    return pools_of((row.get("url"), row.get("user")) for _, _, row in ranked)


def _is_mask(user: object) -> bool:
    return isinstance(user, str) and len(user) > 0 and not user.strip("*")


def _sum(users: list[Reply], name: str) -> int | None:
    counts = [whole_of(row.get(name)) for row in users]
    return None if not counts or None in counts else sum([count or 0 for count in counts])


def _heat(span: object) -> float | None:
    """The hotter end of a span; a board without a sensor prints 0."""
    return (positive_of(span.get("max")) or None) if isinstance(span, dict) else None


def _ths(value: object) -> float | None:
    rate = positive_of(value)
    return None if rate is None else rate * _GHS


# -- the other pages -----------------------------------------------------------------------------------


class Info(NamedTuple):
    """One `/info`."""

    identity: Identity
    firmware: str | None
    addressing: str | None
    uptime_s: float | None
    """In whole minutes: it prints no more."""
    platform: str | None
    """Of the control board: `xil`, `aml`, `cv`, …"""


def read_info(reply: Reply, what: str) -> Info:
    """Read `/info`.

    Raises:
        UnexpectedReply: another firmware's page, or it names no MAC, so nobody knows who answers.
    """
    if (text_of(reply.get("fw_name")) or "").lower() != FAMILY:
        raise UnexpectedReply(f"{what}: not VNish")
    if (text_of(reply.get("hr_measure")) or "GH/s").upper() == "MH/S":
        raise UnexpectedReply(f"{what}: a Scrypt machine, which counts in MH/s")
    system = reply.get("system")
    network = system.get("network_status") if isinstance(system, dict) else None
    if not isinstance(system, dict) or not isinstance(network, dict):
        raise UnexpectedReply(f"{what}: no network status")
    mac = mac_of(network.get("mac"))
    if mac is None:
        raise UnexpectedReply(f"{what}: names no MAC")
    serial = text_of(reply.get("serial"))
    dhcp = network.get("dhcp")
    return Info(
        Identity(
            mac=mac,
            serial=None if serial is None or serial.upper() == "N/A" else serial,
            make="Bitmain",
            model=text_of(reply.get("miner")),
            family=FAMILY,
        ),
        text_of(reply.get("fw_version")),
        {True: "dhcp", False: "static"}.get(dhcp) if isinstance(dhcp, bool) else None,
        read_uptime(system.get("uptime")),
        text_of(reply.get("platform")),
    )


def read_uptime(value: object) -> float | None:
    """Seconds from `0:06`, ` 1:00` or `10 days, 18:00`."""
    match = _UPTIME.fullmatch(value[:40]) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes = (int(group or 0) for group in match.groups())
    return float(days * 86_400 + hours * 3_600 + minutes * 60)


def read_running_preset(reply: Reply) -> str | None:
    """The preset that runs, from `/perf-summary`."""
    current = reply.get("current_preset")
    return text_of(current.get("name")) if isinstance(current, dict) else None
