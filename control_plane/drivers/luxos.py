"""LuxOS: one JSON command per connection on 4028, joined where it has no parameter.

A look at any depth is one connection. Writes of power want a session, which the device gives to whoever
asks, one at a time; a session that somebody else holds is waited for, never taken over, although the
device would tell its id. Pools want none: an open write surface (`Capabilities.open_writes`). Another
address wants one too: `luxos_network`.

ATM, the device's own controller, moves the profile whatever was pinned, up to its ceiling. So with ATM
on a power mode is declared to the ceiling too, and first. All traps: asic-devices reference, §1 and §2.

Tried on: the simulator only.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from control_plane.core import limits
from control_plane.core.change import (
    Applied,
    Change,
    ChangeKind,
    Disturbance,
    Failed,
    InProgress,
    Outcome,
    Reboot,
    RefusedByDevice,
    RestartMining,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    StartMining,
    StopMining,
    kind_of,
)
from control_plane.core.errors import ControlPlaneError, TransientError, UnexpectedReply
from control_plane.core.observation import Depth, Field, Identity, Observation, Settings
from control_plane.drivers import luxos_pools as pools
from control_plane.drivers import luxos_reads as reads
from control_plane.drivers import luxos_replies as replies
from control_plane.drivers.driver import (
    ask,
    check_identity,
    ends_in_nul,
    maybe_written,
    not_written,
    text_of,
    whole_of,
)
from control_plane.drivers.luxos_costs import (
    BOOT_CHECK_S,
    CAPABILITIES,
    CHECK_S,
    RESTART_CHECK_S,
)
from control_plane.drivers.luxos_power import Command, Power, to_mode, to_start

if TYPE_CHECKING:
    from control_plane.core.change import Capabilities
    from control_plane.core.fleet import StaticNetwork
    from control_plane.core.observation import PoolSetting
    from control_plane.core.ports import Clock, Net, Permit, Target

PORT = 4028
_TELEMETRY: Final = ("summary", "devs", "power", "fans", "config")
_JOINED: Final = {
    Depth.TELEMETRY: _TELEMETRY,
    Depth.POOLS: (*_TELEMETRY, "pools"),
    Depth.FULL: (*_TELEMETRY, "pools", "version", "profiles", "atm", "devdetails"),
}
_HOT_ASKS: Final = {
    Depth.TELEMETRY: frozenset({Field.MINING}),
    Depth.POOLS: frozenset({Field.MINING, Field.POOLS}),
}
_MODE_TOO: Final = frozenset({Field.POWER_MODE})
_POWER: Final = ("config", "profiles", "atm")
_WALK_MAX: Final = 24
"""Commands of one walk from pool list to pool list: more than three lists of three need."""
_NO_SESSION, _BUSY = frozenset({400, 401}), 402
_CHECK_S: Final = {ChangeKind.REBOOT: BOOT_CHECK_S, ChangeKind.RESTART_MINING: RESTART_CHECK_S}


class LuxosDriver:
    """The driver of family `luxos`."""

    def __init__(self, net: Net, clock: Clock) -> None:
        self._net = net
        self._clock = clock

    @property
    def capabilities(self) -> Capabilities:
        """What the family can do."""
        return CAPABILITIES

    async def identify(self, target: Target) -> Identity:
        """MAC, serial and model by `config`."""
        identity, _ = await self._config(target)
        if identity.mac is None and identity.serial is None:
            raise UnexpectedReply(
                f"{target.address} config names neither a MAC nor a serial number"
            )
        return identity

    async def observe(self, target: Target, depth: Depth) -> Observation:
        """One look, in one connection; see `core.ports.Driver`."""
        told = await self._read(target, _JOINED[depth])
        summary = replies.row_of(told.summary, told, target.address)
        row = replies.row_of(told.config, told, target.address)
        config = reads.read_config(row)
        power = replies.rows_of(told.power)
        telemetry = reads.read_telemetry(
            summary,
            mining=config.mining,
            devs=replies.rows_of(told.devs) or (),
            fans=replies.rows_of(told.fans) or (),
            watts=power[0].watts if power else None,
            chips=reads.read_chips(replies.rows_of(told.devdetails) or ()),
        )
        found = pools.read_rows(replies.rows_of(told.pools))
        if found is not None and pools.is_split(found):
            errors = (*telemetry.errors, "the hash is split between groups of pools")
            telemetry = msgspec.structs.replace(telemetry, errors=errors)
        asked, settings = _settings(told, config, depth, found)
        return Observation(
            asset=target.asset,
            at_s=self._clock.wall_s(),
            depth=depth,
            source="luxos api",
            identity=reads.read_identity(row) if depth is Depth.FULL else None,
            settings=settings,
            asked=asked,
            telemetry=telemetry,
        )

    async def apply(self, target: Target, change: Change, permit: Permit) -> Outcome:
        """Send one change; see `core.ports.Driver`. Pools, and modes under ATM, take several commands."""
        kind = kind_of(change)
        try:
            match change:
                case SetPools(pools=wanted):
                    return await self._set_pools(target, wanted, permit)
                case SetPowerMode(power_mode=mode):
                    power = await self._power(target)
                    return await self._send_all(target, kind, permit, to_mode(power, mode))
                case SetPowerLimit():
                    return Failed("it has profiles, and no watt limit", retryable=False)
                case StopMining():
                    _, config = await self._config(target)
                    sleep = [] if config.mining is False else [Command("curtail", ("sleep",))]
                    return await self._send_all(target, kind, permit, sleep)
                case StartMining(power_mode=mode):
                    power = await self._power(target)
                    return await self._send_all(target, kind, permit, to_start(power, mode))
                case RestartMining():
                    # A unit that sleeps sleeps on, through either.
                    return await self._send_all(target, kind, permit, [Command("resetminer")])
                case Reboot():
                    return await self._send_all(target, kind, permit, [Command("rebootdevice")])
                case _:
                    assert_never(change)
        except ControlPlaneError as error:
            return not_written(error)

    async def set_network(self, target: Target, network: StaticNetwork, permit: Permit) -> Outcome:
        """`netset`: all of it at once, the host name too. It mines on."""
        from control_plane.drivers import luxos_network as networks  # noqa: PLC0415 — rarely needed

        try:
            data = await ask(self._net, target.address, PORT, _joined(("config",)))
            name = networks.read_hostname(data, f"{target.address} config")
            commands = networks.to_static(network, name)
            # Pools take as long to be said.
            return await self._send_all(target, ChangeKind.SET_POOLS, permit, commands, moves=True)
        except ControlPlaneError as error:
            return not_written(error)

    # -- reading -----------------------------------------------------------------------------------

    async def _read(self, target: Target, names: tuple[str, ...]) -> replies.Joined:
        """Replies by command, from one connection."""
        data = await ask(self._net, target.address, PORT, _joined(names))
        return replies.read_joined(data, names, f"{target.address} {names[0]}")

    async def _config(self, target: Target) -> tuple[Identity, reads.Config]:
        what = f"{target.address} config"
        data = await ask(self._net, target.address, PORT, _joined(("config",)))
        told = replies.read_one(data, replies.Config, what)
        replies.check(told.status, what)
        row = told.rows[0] if told.rows else replies.ConfigRow()
        return reads.read_identity(row), reads.read_config(row)

    async def _power(self, target: Target) -> Power:
        told = await self._read(target, _POWER)
        ladder = reads.read_ladder(replies.rows_of(told.profiles) or ())
        config = reads.read_config(replies.row_of(told.config, told, target.address))
        return Power(config, ladder, reads.read_atm(replies.rows_of(told.atm) or (), ladder))

    # -- pools -------------------------------------------------------------------------------------

    async def _set_pools(
        self, target: Target, wanted: tuple[PoolSetting, ...], permit: Permit
    ) -> Outcome:
        """Walk from the list that is there to the wanted one, each step from a fresh look."""
        if not wanted:
            return Failed("a write that would leave no pool", retryable=False)
        if len(wanted) > CAPABILITIES.max_pools:
            return Failed(f"{len(wanted)} pools, at most {CAPABILITIES.max_pools}", retryable=False)
        trouble = pools.check(wanted)
        if trouble is not None:
            return Failed(trouble, retryable=False)
        before: Sequence[pools.Row] | None = None
        for _ in range(_WALK_MAX):
            try:
                outcome, found = await self._pool_step(target, wanted, permit, before)
            except ControlPlaneError as error:
                if before is None:
                    raise
                return maybe_written(error, check_after_s=CHECK_S)
            if outcome is not None:
                return outcome if before is None else _part_of_more(outcome, CHECK_S)
            before = found
        return InProgress(CHECK_S, "the list of pools comes to no end")

    async def _pool_step(
        self,
        target: Target,
        wanted: tuple[PoolSetting, ...],
        permit: Permit,
        before: Sequence[pools.Row] | None,
    ) -> tuple[Outcome | None, Sequence[pools.Row]]:
        """One command; the outcome of the whole where it ends here, and the list before the command."""
        told = await self._read(target, ("config", "pools"))
        found = pools.read_rows(replies.rows_of(told.pools))
        if found is None:
            raise UnexpectedReply(f"{target.address} pools cannot be read")
        command = pools.next_command(found, wanted)
        if command is None:
            done = "the pools read so already; nothing was written" if before is None else ""
            return Applied(done), found
        if found == before:
            # Acknowledged, and nothing moved: once is enough.
            return InProgress(CHECK_S, f"{command.name} was acknowledged and shows not"), found
        check_identity(
            target, reads.read_identity(replies.row_of(told.config, told, target.address))
        )
        outcome = await self._send(target, ChangeKind.SET_POOLS, permit, *command)
        return (None if isinstance(outcome, Applied) else outcome), found

    # -- with a session ----------------------------------------------------------------------------

    async def _send_all(
        self,
        target: Target,
        kind: ChangeKind,
        permit: Permit,
        commands: Sequence[Command] | Failed,
        *,
        moves: bool = False,
    ) -> Outcome:
        """Commands in one session, each to the pinned machine and by its own permit.

        With `moves` nobody logs off once one was let through: by then another may stand at the address.
        """
        if isinstance(commands, Failed):
            return commands
        if not commands:
            return Applied("it is so already; nothing was written")
        check_s = _CHECK_S.get(kind, CHECK_S)
        session = await self._logon(target)
        outcome: Outcome = Applied()
        sent = 0
        try:
            for command in commands:
                identity, config = await self._config(target)
                check_identity(target, identity)
                if command.step_before not in {None, config.step}:
                    return InProgress(check_s, "the profile does not read back yet")
                parameter = ",".join((session, *command.values))
                outcome = await self._send(target, kind, permit, command.name, parameter)
                if not isinstance(outcome, Applied):
                    return outcome if sent == 0 else _part_of_more(outcome, check_s)
                sent += 1
        except ControlPlaneError as error:
            return not_written(error) if sent == 0 else maybe_written(error, check_after_s=check_s)
        finally:
            # A restart that was let through, or may have been, ends the session by itself; time does else.
            stays = kind not in _CHECK_S and not moves
            if stays or (sent == 0 and not isinstance(outcome, InProgress)):
                await self._logoff(target, session)
        if CAPABILITIES.writes[kind].disturbance is Disturbance.REBOOTS:
            return InProgress(check_s, "the control board reboots")
        return outcome

    async def _logon(self, target: Target) -> str:
        """A session of our own.

        Raises:
            ControlPlaneError: none was given; one that somebody holds is gone a minute after its last use.
        """
        what = f"{target.address} logon"
        data = await ask(self._net, target.address, PORT, b'{"command":"logon"}')
        reply = replies.read_one(data, replies.Logon, what)
        if reply.status and whole_of(reply.status[0].code) == _BUSY:
            raise TransientError(f"{what}: {replies.told(reply.status)}", retry_after_s=60.0)
        replies.check(reply.status, what)
        session = text_of(reply.rows[0].session) if reply.rows else None
        if session is None or "," in session:
            raise UnexpectedReply(f"{what}: no session in the reply")
        return session

    async def _logoff(self, target: Target, session: str) -> None:
        """Give the session back; where that fails it ends by itself within a minute."""
        request = _request("logoff", session)
        try:
            await ask(self._net, target.address, PORT, request)
        except ControlPlaneError:
            return

    async def _send(
        self, target: Target, kind: ChangeKind, permit: Permit, name: str, parameter: str
    ) -> Outcome:
        """One command, at most once, by permit; whoever calls has just compared identities."""
        connection = await self._net.connect(
            target.address, PORT, deadline_s=limits.CONNECT_DEADLINE_S
        )
        refusal = permit()
        if refusal is not None:
            connection.close()
            return Failed(refusal, retryable=True)
        check_s = _CHECK_S.get(kind, CHECK_S)
        try:
            data = await connection.request(
                _request(name, parameter),
                complete=ends_in_nul,
                deadline_s=CAPABILITIES.writes[kind].accept_s,
                max_bytes=limits.REPLY_MAX_BYTES,
            )
            reply = replies.read_one(data, replies.Answer, f"{target.address} {name}")
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=check_s)
        finally:
            connection.close()
        return _verdict(reply, check_after_s=check_s)


@functools.cache
def _joined(names: tuple[str, ...]) -> bytes:
    return b'{"command":"' + "+".join(names).encode() + b'"}'


def _settings(
    told: replies.Joined,
    config: reads.Config,
    depth: Depth,
    found: tuple[pools.Row, ...] | None,
) -> tuple[frozenset[Field], Settings]:
    """What a look can tell of settings, and what it asked for."""
    listed = None if found is None else pools.pools_in(found)
    if depth is not Depth.FULL:
        asked = _HOT_ASKS[depth]
        # The ceiling of ATM and the ladder are read at full depth only.
        mode = reads.power_mode(config, None, reads.NO_LADDER)
        return asked if mode is None else asked | _MODE_TOO, Settings(
            pools=listed, mining=config.mining, power_mode=mode
        )
    ladder = reads.read_ladder(replies.rows_of(told.profiles) or ())
    atm = reads.read_atm(replies.rows_of(told.atm) or (), ladder)
    version = replies.rows_of(told.version)
    return CAPABILITIES.reads, Settings(
        pools=listed,
        mining=config.mining,
        power_mode=reads.power_mode(config, atm, ladder),
        firmware=text_of(version[0].luxminer) if version else None,
        addressing=config.addressing,
    )


def _request(name: str, parameter: str) -> bytes:
    return msgspec.json.encode({"command": name, "parameter": parameter})


def _verdict(reply: replies.Answer, *, check_after_s: float) -> Outcome:
    """What the answer to a command says; anything unclear is looked at again."""
    status = reply.status[0] if reply.status else replies.Status()
    told = replies.told(reply.status)
    match status.letter:
        case "S" | "I" | "W":
            return Applied(told)
        case "E" | "F":
            if whole_of(status.code) in _NO_SESSION and "session" in told.lower():
                return Failed(f"the session is gone ({told})", retryable=True)
            return RefusedByDevice(told)
        case _:
            return InProgress(check_after_s, told)


def _part_of_more(outcome: Outcome, check_after_s: float) -> Outcome:
    """The outcome of a command after others of the same write: that of a part is not that of the whole."""
    if isinstance(outcome, Failed):
        return InProgress(check_after_s, outcome.reason)
    return outcome
