"""WhatsMiner, API v2.0.x: one JSON object per connection on 4028, reads in the clear, writes sealed.

The hot path is one connection and one joined command. Every write takes a token of its own: tokens
die with a boot, a password and after 30 minutes, and 12 writes a day stay far below the 32 that a
client may hold. All traps: asic-devices reference, §1 and §2.

Whether the write interface is on cannot be read, and looks write nothing. A write that is refused for
it tells; from then on looks say `write_enabled=False`, until a later write is let through.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from control_plane.core import limits
from control_plane.core.catalogue import Facts
from control_plane.core.change import (
    Applied,
    Change,
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
from control_plane.core.errors import ControlPlaneError, UnexpectedReply
from control_plane.core.observation import Depth, Field, Identity, Observation, Settings
from control_plane.drivers import whatsminer_reads as reads
from control_plane.drivers.antminer_reads import read_pools
from control_plane.drivers.driver import (
    Reply,
    ask,
    check_identity,
    clean,
    decode_reply,
    ends_in_nul,
    fits,
    maybe_written,
    not_written,
    pieces_of,
    rows,
    text_of,
    unfit,
    upload_s,
    whole_of,
)
from control_plane.drivers.whatsminer_costs import (
    BOOT_CHECK_S,
    CAPABILITIES,
    FIRMWARE,
    PASSWORDS,
    RESTART_CHECK_S,
    SLOTS,
)

if TYPE_CHECKING:
    from control_plane.core.change import Capabilities
    from control_plane.core.fleet import StaticNetwork
    from control_plane.core.observation import PoolSetting
    from control_plane.core.ports import Clock, Connection, ImageFile, Net, Permit, Target
    from control_plane.core.secret import Secret
    from control_plane.drivers.whatsminer_crypto import Seal

Parts = dict[str, Reply]
"""Replies of the mining process, by command."""

PORT = 4028
UNLIMITED_W: Final = 99_999
"""As a limit this value takes the limit away, and so does 0 (API v2.0.5)."""
_JOINED: Final = {
    Depth.TELEMETRY: ("summary", "devs"),
    Depth.POOLS: ("summary", "devs", "pools"),
    Depth.FULL: ("summary", "devs", "pools", "devdetails"),
}
_READY: Final = "ready"
_SIZE_BYTES: Final = 4
_ACCEPT_S: Final = 30.0
"""Wire seconds for the answer to a write that is no `Change`. Ours."""
_PASSWORD: Final = "x"  # noqa: S105 — pools take any; a stored one cannot be read back.


class WhatsminerDriver:
    """The driver of family `whatsminer_v2`."""

    def __init__(self, net: Net, clock: Clock) -> None:
        self._net = net
        self._clock = clock
        self._joins_not: set[str] = set()
        self._writable: dict[str, bool] = {}
        """By asset, what the last answer to a write told of the write interface.

        Only a memory of this process: what it learned goes out with every look, and whoever keeps looks
        hands it to the next process (`Target.write_enabled`).
        """

    @property
    def capabilities(self) -> Capabilities:
        """What the family can do."""
        return CAPABILITIES

    async def identify(self, target: Target) -> Identity:
        """MAC and serial by `get_miner_info`; it takes no password and tells no type."""
        return reads.read_identity(await self._daemon(target, "get_miner_info"))

    async def observe(self, target: Target, depth: Depth) -> Observation:
        """One look; see `core.ports.Driver`. TELEMETRY and POOLS are one connection."""
        parts = await self._mining(target, _JOINED[depth])
        summary, pools = _read_parts(parts, target.address)
        if depth is Depth.FULL:
            return await self._full(target, summary, pools, parts)
        asked, settings = summary.asked, Settings(mining=summary.mining)
        if depth is Depth.POOLS:
            asked |= {Field.POOLS}
            settings = Settings(mining=summary.mining, pools=pools)
        return Observation(
            asset=target.asset,
            at_s=self._clock.wall_s(),
            depth=depth,
            source="whatsminer_v2 api",
            settings=settings,
            asked=asked,
            telemetry=summary.telemetry,
            write_enabled=self._write_enabled(target),
        )

    async def apply(self, target: Target, change: Change, permit: Permit) -> Outcome:
        """Send one change; see `core.ports.Driver`. Waking to another mode takes two commands."""
        try:
            match change:
                case SetPools(pools=pools):
                    return await self._set_pools(target, pools, permit)
                case SetPowerMode(power_mode=mode):
                    return await self._set_mode(target, mode, permit)
                case SetPowerLimit(power_limit_w=watts):
                    return await self._set_limit(target, watts, permit)
                case StopMining():
                    # `respbefore`: it answers before it acts, so that the answer comes in time.
                    how = {"respbefore": "true"}
                    return await self._send(target, change, permit, "power_off", how)
                case StartMining():
                    return await self._start(target, change, permit)
                case RestartMining():
                    return await self._send_awake(target, change, permit, "restart_btminer", {})
                case Reboot():
                    return await self._send_awake(target, change, permit, "reboot", {})
                case _:
                    assert_never(change)
        except ControlPlaneError as error:
            return not_written(error)

    # -- firmware ----------------------------------------------------------------------------------

    async def facts(self, target: Target) -> tuple[Identity, Facts]:
        """Version, platform of the control board and model; no password."""
        parts = await self._mining(target, ("devdetails",))
        version = await self._daemon(target, "get_version")
        return await self.identify(target), Facts(
            version=text_of(version.get("fw_ver")),
            model=reads.read_model(None if parts is None else parts["devdetails"]),
            control_board=text_of(version.get("platform")),
        )

    async def install(self, target: Target, file: ImageFile, permit: Permit) -> Outcome:
        """Ask whether it is ready, then send the image's size and bytes on the same connection.

        It ends with a boot, which would wake a unit that was powered off: that one is not written to.
        """
        try:
            barred = await self._would_wake(target, "update_firmware")
            if barred is not None:
                return barred
            seal = await self._seal(target)
            check_identity(target, await self.identify(target))
            connection = await self._net.connect(
                target.address, PORT, deadline_s=limits.CONNECT_DEADLINE_S
            )
        except ControlPlaneError as error:
            return not_written(error)
        try:
            return await self._upload(target, connection, seal, file, permit)
        finally:
            connection.close()

    async def _upload(
        self, target: Target, connection: Connection, seal: Seal, file: ImageFile, permit: Permit
    ) -> Outcome:
        what = f"{target.address} update_firmware"
        try:
            data = await connection.request(
                seal.close("update_firmware", {}),
                complete=reads.is_object,
                deadline_s=limits.REPLY_DEADLINE_S,
                max_bytes=limits.REPLY_MAX_BYTES,
            )
            reply = seal.open(data, what)
        except ControlPlaneError as error:
            return not_written(error)
        if reply.get("Msg") != _READY:
            verdict = self._verdict(target, reply, check_after_s=BOOT_CHECK_S)
            return (
                verdict
                if isinstance(verdict, Failed | RefusedByDevice)
                else Failed(f"not ready for an image: {reads.told(reply)}", retryable=True)
            )
        refusal = permit()
        if refusal is not None:
            return Failed(refusal, retryable=True)
        size = file.image.size_bytes
        try:
            await connection.send(
                chain([size.to_bytes(_SIZE_BYTES, "little")], pieces_of(file)),
                deadline_s=upload_s(size, FIRMWARE),
            )
            data = await connection.request(
                b"",
                complete=ends_in_nul,
                deadline_s=FIRMWARE.check_s,
                max_bytes=limits.REPLY_MAX_BYTES,
            )
            told = decode_reply(data, what)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=BOOT_CHECK_S)
        if whole_of(told.get("Code")) == reads.FAILED:
            return RefusedByDevice(reads.told(told))
        if whole_of(told.get("Code")) == reads.OK:
            return Applied(reads.told(told))
        return InProgress(BOOT_CHECK_S, reads.told(told))

    async def roll_back(self, target: Target, permit: Permit) -> Outcome:
        """It cannot."""
        del target, permit
        return Failed("this family has nothing to go back to", retryable=False)

    # -- passwords ---------------------------------------------------------------------------------

    async def log_in(self, target: Target) -> Identity:
        """By a sealed read: see `whatsminer_passwords`. Each takes a token."""
        from control_plane.drivers import whatsminer_passwords as passwords  # noqa: PLC0415

        return await passwords.log_in(self._net, target, PORT, await self._seal(target))

    async def set_password(self, target: Target, new: Secret, permit: Permit) -> Outcome:
        """`update_pwd`; all tokens end with it.

        The answer may come under the old key or the new one; what cannot be opened says nothing.
        """
        if not fits(PASSWORDS, new):
            return unfit(PASSWORDS)
        arguments = {"old": target.password.reveal(), "new": new.reveal()}
        try:
            return await self._send_sealed(
                target, permit, "update_pwd", arguments, accept_s=_ACCEPT_S, check_s=RESTART_CHECK_S
            )
        except ControlPlaneError as error:
            return not_written(error)

    # -- network -----------------------------------------------------------------------------------

    async def set_network(self, target: Target, network: StaticNetwork, permit: Permit) -> Outcome:
        """`net_config`: all of it at once, the host name too. It boots for it (`NETWORK`)."""
        try:
            barred = await self._would_wake(target, "net_config")
            if barred is not None:
                return barred
            info = await self._daemon(target, "get_miner_info")
            arguments = reads.network_arguments(info, network)
            return await self._send_sealed(
                target, permit, "net_config", arguments, accept_s=_ACCEPT_S, check_s=BOOT_CHECK_S
            )
        except ControlPlaneError as error:
            return not_written(error)

    # -- reading -----------------------------------------------------------------------------------

    async def _ask(self, target: Target, command: str) -> bytes:
        return await ask(self._net, target.address, PORT, b'{"cmd":"' + command.encode() + b'"}')

    async def _mining(self, target: Target, names: tuple[str, ...]) -> Parts | None:
        """Replies of the mining process by command; `None` while it restarts.

        One joined command, or one each where the build does not join.
        """
        what = f"{target.address} summary"
        if len(names) > 1 and target.asset not in self._joins_not:
            data = await self._ask(target, "+".join(names))
            if data.startswith(reads.NO_MINER):
                return None
            reply = decode_reply(data, what)
            if "summary" in reply:
                return {name: _first(reply.get(name)) for name in names}
            if whole_of(reply.get("Code")) not in {reads.UNKNOWN_COMMAND, reads.NO_WRITES}:
                raise UnexpectedReply(f"{what}: {reads.told(reply)}")
            self._joins_not.add(target.asset)
        parts: Parts = {}
        for name in names:
            data = await self._ask(target, name)
            if data.startswith(reads.NO_MINER):
                return None
            parts[name] = decode_reply(data, f"{target.address} {name}")
        return parts

    async def _daemon(self, target: Target, command: str) -> Reply:
        what = f"{target.address} {command}"
        return reads.body_of(decode_reply(await self._ask(target, command), what), what)

    async def _full(
        self,
        target: Target,
        summary: reads.Summary,
        pools: tuple[PoolSetting, ...] | None,
        parts: Parts | None,
    ) -> Observation:
        info = await self._daemon(target, "get_miner_info")
        settings = reads.settings_of(summary, await self._status(target))
        errors = reads.read_errors(await self._ask(target, "get_error_code"))
        model = reads.read_model(None if parts is None else parts["devdetails"])
        return Observation(
            asset=target.asset,
            at_s=self._clock.wall_s(),
            depth=Depth.FULL,
            source="whatsminer_v2 api",
            identity=reads.read_identity(info, model),
            settings=msgspec.structs.replace(
                settings,
                pools=pools,
                addressing=reads.read_addressing(info),
            ),
            asked=CAPABILITIES.reads,
            telemetry=msgspec.structs.replace(summary.telemetry, errors=errors),
            write_enabled=self._write_enabled(target),
        )

    def _write_enabled(self, target: Target) -> bool | None:
        return self._writable.get(target.asset, target.write_enabled)

    async def _status(self, target: Target) -> reads.Status:
        """What is configured; nothing known where it cannot be understood."""
        try:
            return reads.read_status(await self._daemon(target, "status"))
        except UnexpectedReply:
            return reads.UNREAD

    # -- writing -----------------------------------------------------------------------------------

    async def _set_pools(
        self, target: Target, pools: tuple[PoolSetting, ...], permit: Permit
    ) -> Outcome:
        if not pools:
            return Failed("a write that would leave no pool", retryable=False)
        if len(pools) > SLOTS:
            return Failed(f"{len(pools)} pools, and {SLOTS} slots", retryable=False)
        arguments = {}
        for slot in range(1, SLOTS + 1):
            # All slots, so that none keeps what was in it.
            pool = pools[slot - 1] if slot <= len(pools) else None
            arguments[f"pool{slot}"] = "" if pool is None else pool.url
            arguments[f"worker{slot}"] = "" if pool is None else pool.worker
            arguments[f"passwd{slot}"] = "" if pool is None else _PASSWORD
        return await self._send(target, SetPools(pools), permit, "update_pools", arguments)

    async def _set_mode(self, target: Target, mode: str, permit: Permit) -> Outcome:
        if mode not in reads.MODES:
            return _no_such_mode(mode)
        return await self._send(target, SetPowerMode(mode), permit, f"set_{mode}_power", {})

    async def _set_limit(self, target: Target, watts: int, permit: Permit) -> Outcome:
        if not 0 < watts < UNLIMITED_W:
            return Failed(f"a limit of {watts} W would be none", retryable=False)
        arguments = {"power_limit": str(watts)}
        return await self._send_awake(
            target, SetPowerLimit(watts), permit, "adjust_power_limit", arguments
        )

    async def _start(self, target: Target, change: StartMining, permit: Permit) -> Outcome:
        """Wake in the mode that is asked for: the mode first, `power_on` only once it reads so.

        The other way round a unit would draw the watts of its old mode for minutes.
        """
        mode = change.power_mode
        if mode is not None and mode not in reads.MODES:
            return _no_such_mode(mode)
        status, configured = await self._configured(target)
        if mode is None or mode == configured:
            if status.mining is True:
                return Applied("it mines in that mode; nothing was written")
            return await self._send(target, change, permit, "power_on", {})
        outcome = await self._set_mode(target, mode, permit)
        if status.mining is True or isinstance(outcome, Failed | RefusedByDevice):
            return outcome
        try:
            status, configured = await self._configured(target)
            if configured != mode:
                return InProgress(RESTART_CHECK_S, f"mode {mode} does not read back yet")
            if status.mining is not True:
                outcome = await self._send(target, change, permit, "power_on", {})
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=RESTART_CHECK_S)
        if isinstance(outcome, Failed):
            # The mode was written all the same.
            return InProgress(RESTART_CHECK_S, outcome.reason)
        return outcome

    async def _configured(self, target: Target) -> tuple[reads.Status, str | None]:
        """What is configured now, and the mode in force.

        Raises:
            ControlPlaneError: not to be read; no write is decided from less.
        """
        status = reads.read_status(await self._daemon(target, "status"))
        if status.mining is None:
            raise UnexpectedReply(f"{target.address} status tells not whether it is off")
        parts = await self._mining(target, ("summary",))
        summary, _ = _read_parts(parts, target.address)
        return status, reads.settings_of(summary, status).power_mode

    async def _send_awake(
        self,
        target: Target,
        change: Change,
        permit: Permit,
        command: str,
        arguments: Mapping[str, str],
    ) -> Outcome:
        """Send what ends with a restart, unless that would wake it."""
        barred = await self._would_wake(target, command)
        if barred is not None:
            return barred
        return await self._send(target, change, permit, command, arguments)

    async def _would_wake(self, target: Target, command: str) -> Failed | None:
        """Why what ends with a restart may not be sent: it would wake a unit that was powered off (MDK)."""
        status = reads.read_status(await self._daemon(target, "status"))
        if status.mining is True:
            return None
        told = "it is powered off" if status.mining is False else "its state cannot be read"
        return Failed(f"{told}, and {command} would wake it", retryable=True)

    async def _send(
        self,
        target: Target,
        change: Change,
        permit: Permit,
        command: str,
        arguments: Mapping[str, str],
    ) -> Outcome:
        """The one command of a change; who boots for it has only begun."""
        cost = CAPABILITIES.writes[kind_of(change)]
        reboots = cost.disturbance is Disturbance.REBOOTS
        check_s = BOOT_CHECK_S if reboots else RESTART_CHECK_S
        outcome = await self._send_sealed(
            target, permit, command, arguments, accept_s=cost.accept_s, check_s=check_s
        )
        if reboots and isinstance(outcome, Applied):
            return InProgress(check_s, "the control board reboots")
        return outcome

    async def _send_sealed(
        self,
        target: Target,
        permit: Permit,
        command: str,
        arguments: Mapping[str, str],
        *,
        accept_s: float,
        check_s: float,
    ) -> Outcome:
        """One command with a token of its own, at most once, to the pinned machine and by permit.

        Raises:
            ControlPlaneError: nothing was sent.
        """
        seal = await self._seal(target)
        payload = seal.close(command, arguments)
        what = f"{target.address} {command}"
        # A connection carries one command, so this is the nearest that identity gets to the write.
        check_identity(target, await self.identify(target))
        connection = await self._net.connect(
            target.address, PORT, deadline_s=limits.CONNECT_DEADLINE_S
        )
        refusal = permit()
        if refusal is not None:
            connection.close()
            return Failed(refusal, retryable=True)
        try:
            data = await connection.request(
                payload,
                complete=ends_in_nul,
                deadline_s=accept_s,
                max_bytes=limits.REPLY_MAX_BYTES,
            )
            reply = seal.open(data, what)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=check_s)
        finally:
            connection.close()
        return self._verdict(target, reply, check_after_s=check_s)

    async def _seal(self, target: Target) -> Seal:
        """A fresh token and its cipher.

        Raises:
            ControlPlaneError: none was given; 136 `over max connect` passes within 30 minutes.
        """
        # Ciphers are loaded with the first write, not by a plan.
        from control_plane.drivers.whatsminer_crypto import Seal  # noqa: PLC0415

        what = f"{target.address} get_token"
        reply = decode_reply(await self._ask(target, "get_token"), what)
        if whole_of(reply.get("Code")) == reads.NO_WRITES:
            self._writable[target.asset] = False
        return Seal(target.password, reads.body_of(reply, what), what)

    def _verdict(self, target: Target, reply: Reply, *, check_after_s: float) -> Outcome:
        """What the answer to a write says; anything unclear is looked at again."""
        told = reads.told(reply)
        match whole_of(reply.get("Code")):
            case reads.OK:
                self._writable[target.asset] = True
                return Applied(told)
            case reads.NO_WRITES:
                self._writable[target.asset] = False
                return Failed(f"the write interface is switched off ({told})", retryable=True)
            case reads.UNKNOWN_COMMAND:
                # One command of many, or firmware of 2024.11 and later, which knows no writes.
                self._writable[target.asset] = False
                return RefusedByDevice(told)
            case reads.FAILED:
                return RefusedByDevice(told)
            case reads.UNDECIPHERABLE | reads.NOT_BASE64:
                return Failed(f"the device refuses the password ({told})", retryable=False)
            case reads.BAD_TOKEN | reads.TOO_MANY:
                return Failed(told, retryable=True)
            case _:
                return InProgress(check_after_s, told)


def _no_such_mode(mode: str) -> Failed:
    return Failed(f"no mode {clean(mode)!r}: it has low, normal and high", retryable=False)


def _first(section: object) -> Reply:
    """One command's reply out of a joined one."""
    found = rows(section)
    return found[0] if found else {}


def _read_parts(
    parts: Parts | None, address: str
) -> tuple[reads.Summary, tuple[PoolSetting, ...] | None]:
    """The summary, and the pools where they were asked for and can be read."""
    if parts is None:
        return reads.STARTING, None
    summary = reads.read_summary(parts["summary"], parts.get("devs"), f"{address} summary")
    if "pools" not in parts:
        return summary, None
    try:
        return summary, read_pools(parts["pools"], f"{address} pools").pools
    except UnexpectedReply:
        return summary, None
