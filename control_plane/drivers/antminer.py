"""Stock Antminer: cgminer's RPC on 4028 to read, CGI scripts behind HTTP digest to identify and write.

The hot path is one connection and one command: no simulated or recorded build takes joined commands.
4028 tells neither MAC nor serial and cannot write. All traps: asic-devices reference, §1 and §2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from control_plane.core.change import (
    Applied,
    Capabilities,
    Change,
    ChangeKind,
    Disturbance,
    Failed,
    FirmwareWays,
    InProgress,
    NetworkWays,
    Outcome,
    PasswordWays,
    Reboot,
    RefusedByDevice,
    SetPools,
    SettingClass,
    kind_of,
)
from control_plane.core.errors import ControlPlaneError, UnexpectedReply
from control_plane.core.observation import (
    Depth,
    Field,
    Identity,
    Observation,
    Settings,
    Telemetry,
)
from control_plane.drivers import antminer_reads as reads
from control_plane.drivers.antminer_conf import Conf, Unwritable, changed, read_conf
from control_plane.drivers.driver import (
    ask,
    check_identity,
    decode_reply,
    fits,
    maybe_written,
    not_written,
    text_of,
    unfit,
    upload_s,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from control_plane.core.catalogue import Facts
    from control_plane.core.fleet import StaticNetwork
    from control_plane.core.ports import Clock, ImageFile, Net, Permit, Target
    from control_plane.core.secret import Secret
    from control_plane.drivers.http import WebSession
    from control_plane.drivers.http_framing import Page

RPC_PORT, WEB_PORT = 4028, 80
_STATS: Final = b'{"command":"stats","new_api":true}'
_POOLS: Final = b'{"command":"pools"}'
_CONF: Final = "/cgi-bin/get_miner_conf.cgi"
_SET_CONF: Final = "/cgi-bin/set_miner_conf.cgi"
_INFO: Final = "/cgi-bin/get_system_info.cgi"
_SUMMARY: Final = "/cgi-bin/summary.cgi"
_REBOOT: Final = "/cgi-bin/reboot.cgi"
_TYPE: Final = "/cgi-bin/miner_type.cgi"
_PASSWD: Final = "/cgi-bin/passwd.cgi"  # noqa: S105 — a page
_UPGRADE: Final = "/cgi-bin/upgrade.cgi"
_NETWORK: Final = "/cgi-bin/get_network_info.cgi"
_SET_NETWORK: Final = "/cgi-bin/set_network_conf.cgi"
_DONE: Final = (b"M000", b"U000")
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404

_RESTART_CHECK_S: Final = 10.0
"""Device seconds after a config write until reads are worth it: an immediate one races (ARS#249)."""
_BOOT_CHECK_S: Final = 60.0

_CONF_WRITE: Final = SettingClass(
    disturbance=Disturbance.RESTARTS_MINING,
    persistent=True,
    # Full hash returns 5–10 min after the restart (MinerWatch, S19 XP): half of that is lost.
    lost_s=240.0,
    # `set_miner_conf` took 21 s (ARS#249); trap 15 asks for 45.
    accept_s=45.0,
    readback_s=180.0,
    # Ten minutes of ramp, and slack: the last evidence is full hash.
    effect_s=900.0,
)
FIRMWARE: Final = FirmwareWays(
    # Ours: 30 MB over a poor link within five minutes.
    bytes_per_s=100_000.0,
    # It checks signatures, formats a partition and copies, before it answers (FR-1.1, `updateporc.sh`).
    check_s=180.0,
    can_roll_back=False,
)
PASSWORDS: Final = PasswordWays(
    # Ours, and narrow: what the script behind the page does with other characters is not known.
    pattern=r"[A-Za-z0-9_.-]{1,32}",
    means="1 to 32 letters, digits, `_`, `.` and `-`",
    # The page answers when it has written; the web server may read it a moment later. Ours.
    late_s=120.0,
)
NETWORK: Final = NetworkWays(
    # The network restarts a second after the answer (`antminer_network`); the rest is slack. Ours.
    late_s=120.0,
    reboots=False,
)
CAPABILITIES: Final = Capabilities(
    family=reads.FAMILY,
    reads=frozenset(
        {Field.POOLS, Field.MINING, Field.POWER_MODE, Field.FIRMWARE, Field.ADDRESSING}
    ),
    writes={
        ChangeKind.SET_POOLS: _CONF_WRITE,
        ChangeKind.SET_POWER_MODE: _CONF_WRITE,
        ChangeKind.START_MINING: _CONF_WRITE,
        # Hash had not dropped after 60 s (ARS#245), and nothing has to come back.
        ChangeKind.STOP_MINING: msgspec.structs.replace(_CONF_WRITE, lost_s=0.0, effect_s=600.0),
        # Boot and ramp together; no vendor figure, boots of 1–2 min are ours.
        ChangeKind.REBOOT: msgspec.structs.replace(
            _CONF_WRITE,
            disturbance=Disturbance.REBOOTS,
            persistent=False,
            lost_s=330.0,
            readback_s=300.0,
        ),
    },
    settle_s=900.0,
    max_pools=3,
    firmware=FIRMWARE,
    passwords=PASSWORDS,
    network=NETWORK,
)

_ASKED_FULL: Final = CAPABILITIES.reads


class AntminerDriver:
    """The driver of family `antminer_stock`."""

    def __init__(self, net: Net, clock: Clock) -> None:
        self._net = net
        self._clock = clock

    @property
    def capabilities(self) -> Capabilities:
        """What the family can do."""
        return CAPABILITIES

    async def identify(self, target: Target) -> Identity:
        """MAC, serial and type by one CGI page; 4028 tells neither of the first two."""
        web = self._web(target)
        try:
            return await self._identity(target, web)
        finally:
            web.close()

    async def observe(self, target: Target, depth: Depth) -> Observation:
        """One look; see `core.ports.Driver`. TELEMETRY is one connection."""
        what = f"{target.address} stats"
        data = await ask(self._net, target.address, RPC_PORT, _STATS)
        stats = reads.read_stats(decode_reply(data, what), what)
        if depth is Depth.TELEMETRY:
            return Observation(
                asset=target.asset,
                at_s=self._clock.wall_s(),
                depth=depth,
                source="antminer_stock rpc",
                settings=stats.settings,
                asked=stats.asked,
                telemetry=stats.telemetry,
            )
        running = await self._running_pools(target)
        telemetry = msgspec.structs.replace(
            stats.telemetry, accepted=running.accepted, rejected=running.rejected
        )
        if depth is Depth.POOLS:
            return Observation(
                asset=target.asset,
                at_s=self._clock.wall_s(),
                depth=depth,
                source="antminer_stock rpc",
                settings=msgspec.structs.replace(stats.settings, pools=running.pools),
                asked=stats.asked | {Field.POOLS},
                telemetry=telemetry,
            )
        return await self._full(target, stats, running, telemetry)

    async def apply(self, target: Target, change: Change, permit: Permit) -> Outcome:
        """Send one change; see `core.ports.Driver`."""
        if kind_of(change) not in CAPABILITIES.writes:
            return Failed("stock firmware cannot do this", retryable=False)
        if isinstance(change, SetPools) and not change.pools:
            return Failed("a write that would leave no pool", retryable=False)
        return await self._writing(target, lambda web: self._apply(target, web, change, permit))

    # -- firmware ----------------------------------------------------------------------------------

    async def facts(self, target: Target) -> tuple[Identity, Facts]:
        """Version, type and boards by `miner_type.cgi`; builds before 2022 tell no boards."""
        web = self._web(target)
        try:
            info = decode_reply(await web.get(_INFO), target.address)
            try:
                kind = decode_reply(await web.get(_TYPE), target.address)
            except UnexpectedReply:
                kind = {}
        finally:
            web.close()
        return reads.read_identity(info), reads.read_facts(info, kind)

    async def install(self, target: Target, file: ImageFile, permit: Permit) -> Outcome:
        """`upgrade.cgi` keeps the settings; the device checks the image, answers, and boots into it."""
        web = self._web(target)
        try:
            barred = await self._ready(target, web, permit)
            if barred is not None:
                return barred
        except ControlPlaneError as error:
            web.close()
            return not_written(error)
        try:
            # Framing is loaded with the first look that needs it, not by a plan.
            from control_plane.drivers.http import Form  # noqa: PLC0415

            form = Form(file, field="file", deadline_s=upload_s(file.image.size_bytes, FIRMWARE))
            page = await web.upload(_UPGRADE, form, deadline_s=FIRMWARE.check_s)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=_BOOT_CHECK_S)
        finally:
            web.close()
        return _verdict(page)

    async def roll_back(self, target: Target, permit: Permit) -> Outcome:
        """It cannot: one bank, and older images are refused by many builds."""
        del target, permit
        return Failed("this family has nothing to go back to", retryable=False)

    # -- passwords ---------------------------------------------------------------------------------

    async def log_in(self, target: Target) -> Identity:
        """By a page behind the digest, over a connection and with a nonce of its own."""
        return await self.identify(target)

    async def set_password(self, target: Target, new: Secret, permit: Permit) -> Outcome:
        """`passwd.cgi`: the web server's password, and by it whatever a CGI script does.

        Of builds with today's pages. Those of 2017 want a form with other names (`current_pw`); what they
        make of this document is not known.
        """
        if not fits(PASSWORDS, new):
            return unfit(PASSWORDS)
        given, text = target.password.reveal(), new.reveal()
        body = msgspec.json.encode({"curPwd": given, "newPwd": text, "confirmPwd": text})
        return await self._writing(
            target, lambda web: self._post(target, web, _PASSWD, body, permit)
        )

    # -- network -----------------------------------------------------------------------------------

    async def set_network(self, target: Target, network: StaticNetwork, permit: Permit) -> Outcome:
        """`set_network_conf.cgi`: see `antminer_network`. It mines on."""
        return await self._writing(
            target, lambda web: self._set_network(target, web, network, permit)
        )

    # -- reading -----------------------------------------------------------------------------------

    def _web(self, target: Target) -> WebSession:
        # Framing is loaded with the first look that needs it, not by a plan.
        from control_plane.drivers.http import WebSession  # noqa: PLC0415

        return WebSession(self._net, target, WEB_PORT)

    async def _identity(self, target: Target, web: WebSession) -> Identity:
        return reads.read_identity(decode_reply(await web.get(_INFO), target.address))

    async def _running_pools(self, target: Target) -> reads.Pools:
        what = f"{target.address} pools"
        data = await ask(self._net, target.address, RPC_PORT, _POOLS)
        return reads.read_pools(decode_reply(data, what), what)

    async def _full(
        self, target: Target, stats: reads.Stats, running: reads.Pools, telemetry: Telemetry
    ) -> Observation:
        web = self._web(target)
        try:
            info = decode_reply(await web.get(_INFO), f"{target.address} system info")
            conf = await self._conf(target, web)
            errors = await self._errors(target, web)
        finally:
            web.close()
        mining, power_mode = reads.settings_of(None if conf is None else conf.mode, stats.model)
        # Two sources that disagree: half-booted, or in the middle of a restart. Then neither counts.
        agree = conf is not None and conf.pools == running.pools
        return Observation(
            asset=target.asset,
            at_s=self._clock.wall_s(),
            depth=Depth.FULL,
            source="antminer_stock rpc+cgi",
            identity=reads.read_identity(info),
            settings=Settings(
                pools=running.pools if agree else None,
                mining=mining if agree else None,
                power_mode=power_mode if agree else None,
                firmware=stats.settings.firmware,
                addressing=reads.read_addressing(info),
            ),
            asked=_ASKED_FULL,
            telemetry=msgspec.structs.replace(telemetry, errors=errors),
            write_enabled=True,
        )

    async def _conf(self, target: Target, web: WebSession) -> Conf | None:
        """The config; `None` where it cannot be understood, which is not the same as empty."""
        try:
            return await self._read_conf(target, web)
        except UnexpectedReply:
            return None

    async def _read_conf(self, target: Target, web: WebSession) -> Conf:
        what = f"{target.address} config"
        return read_conf(decode_reply(await web.get(_CONF), what, private=True))

    async def _errors(self, target: Target, web: WebSession) -> tuple[str, ...]:
        try:
            return reads.read_errors(decode_reply(await web.get(_SUMMARY), target.address))
        except UnexpectedReply:
            # Blank while the miner restarts; errors are an aid, not a reason to lose the look.
            return ()

    # -- writing -----------------------------------------------------------------------------------

    async def _writing(
        self, target: Target, write: Callable[[WebSession], Awaitable[Outcome]]
    ) -> Outcome:
        """One write in a session of its own; what it raises left nothing written."""
        web = self._web(target)
        try:
            return await write(web)
        except Unwritable as why:
            return Failed(str(why), retryable=why.retryable)
        except ControlPlaneError as error:
            return not_written(error)
        finally:
            web.close()

    async def _apply(
        self, target: Target, web: WebSession, change: Change, permit: Permit
    ) -> Outcome:
        if isinstance(change, Reboot):
            return await self._reboot(target, web, permit)
        body = await self._to_post(target, web, change)
        if body is None:
            return Applied("the config read so already; nothing was written")
        return await self._post(target, web, _SET_CONF, body, permit)

    async def _set_network(
        self, target: Target, web: WebSession, network: StaticNetwork, permit: Permit
    ) -> Outcome:
        from control_plane.drivers.antminer_network import document  # noqa: PLC0415 — rarely needed

        info = decode_reply(await web.get(_INFO), f"{target.address} system info")
        told = decode_reply(await web.get(_NETWORK), f"{target.address} network info")
        return await self._post(target, web, _SET_NETWORK, document(info, told, network), permit)

    async def _to_post(self, target: Target, web: WebSession, change: Change) -> bytes | None:
        """The document that makes the change, from a config that was read whole just now.

        Raises:
            Unwritable, ControlPlaneError: nothing was written.
        """
        running = await self._running_pools(target)
        conf = await self._read_conf(target, web)
        if conf.pools != running.pools:
            raise Unwritable(
                "the config is not what runs (half-booted, or a restart goes on)", retryable=True
            )
        return changed(conf, change)

    async def _ready(self, target: Target, web: WebSession, permit: Permit) -> Failed | None:
        """All that precedes a write but the write; why it may not leave any more, if so."""
        # This read brings the nonce too, so that the write itself goes out once.
        check_identity(target, await self._identity(target, web))
        await web.prepare_write()
        refusal = permit()
        return None if refusal is None else Failed(refusal, retryable=True)

    async def _post(
        self, target: Target, web: WebSession, page: str, body: bytes, permit: Permit
    ) -> Outcome:
        barred = await self._ready(target, web, permit)
        if barred is not None:
            return barred
        try:
            answer = await web.send("POST", page, body, deadline_s=_CONF_WRITE.accept_s)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=_RESTART_CHECK_S)
        return _verdict(answer)

    async def _reboot(self, target: Target, web: WebSession, permit: Permit) -> Outcome:
        barred = await self._ready(target, web, permit)
        if barred is not None:
            return barred
        cost = CAPABILITIES.writes[ChangeKind.REBOOT]
        try:
            page = await web.send("GET", _REBOOT, b"", deadline_s=cost.accept_s)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=_BOOT_CHECK_S)
        return _refusal(page) or InProgress(_BOOT_CHECK_S, "the control board reboots")


def _refusal(page: Page) -> Outcome | None:
    """The outcome of a page that says that nothing was done."""
    if page.status == _UNAUTHORIZED:
        return Failed("the device refuses the credentials", retryable=False)
    if page.status == _NOT_FOUND:
        return RefusedByDevice("the device has no such page")
    return None


def _verdict(page: Page) -> Outcome:
    """What the answer to a config write says; anything unclear is looked at again."""
    refusal = _refusal(page)
    if refusal is not None:
        return refusal
    try:
        answer = decode_reply(page.body, "answer")
    except UnexpectedReply:
        answer = {}
    # Not the page itself: whatever went wrong, it may be the config with its passwords.
    told = " ".join(filter(None, (text_of(answer.get(key)) for key in ("stats", "code", "msg"))))
    if page.status == _OK and (
        answer.get("stats") == "success" or any(code in page.body[:200] for code in _DONE)
    ):
        return Applied(told)
    if answer.get("stats") == "error":
        return RefusedByDevice(told)
    return InProgress(
        _RESTART_CHECK_S, f"status {page.status}: {told or f'{len(page.body)} bytes'}"
    )
