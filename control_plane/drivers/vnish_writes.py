"""Writing to a device under VNish: what is read before, what is sent, what its answer means."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

import msgspec

from control_plane.core.change import (
    Applied,
    Change,
    ChangeKind,
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
)
from control_plane.core.errors import ControlPlaneError, UnexpectedReply
from control_plane.drivers import vnish_conf as conf
from control_plane.drivers import vnish_network as networks
from control_plane.drivers.driver import (
    check_identity,
    decode_reply,
    maybe_written,
    text_of,
    upload_s,
)
from control_plane.drivers.http import Form
from control_plane.drivers.vnish_costs import (
    BOOT_CHECK_S,
    CAPABILITIES,
    FIRMWARE,
    RESTART_CHECK_S,
)
from control_plane.drivers.vnish_web import API_KEY_USER

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from control_plane.core.fleet import StaticNetwork
    from control_plane.core.observation import PoolSetting
    from control_plane.core.ports import ImageFile, Permit, Target
    from control_plane.core.secret import Secret
    from control_plane.drivers.http_framing import Page
    from control_plane.drivers.vnish_pages import Pages
    from control_plane.drivers.vnish_web import ApiSession

_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 400, 401, 403, 404
_FAILURE: Final = "failure"
_REBOOT: Final = "system/reboot"


class _Wants(NamedTuple):
    """What a saved document still waits for (`SaveConfigResult`)."""

    restart: bool
    reboot: bool


class Writer:
    """One change to one device, in as many requests as it takes."""

    def __init__(self, target: Target, api: ApiSession, pages: Pages, permit: Permit) -> None:
        self._target = target
        self._api = api
        self._pages = pages
        self._permit = permit
        self._has_landed = False
        """Whether a request of it may have been acted upon."""

    async def apply(self, change: Change) -> Outcome:
        """Send it; see `core.ports.Driver`.

        Raises:
            ControlPlaneError: and nothing was written.
        """
        return await self._in_parts(self._apply(change))

    async def set_network(self, network: StaticNetwork) -> Outcome:
        """Have it stand at a static address; see `core.ports.Readdresser`.

        Raises:
            ControlPlaneError: and nothing was written.
        """
        return await self._in_parts(self._set_network(network))

    async def _in_parts(self, write: Awaitable[Outcome]) -> Outcome:
        """The outcome of all requests of a write: that of a part is not that of the whole."""
        try:
            outcome = await write
        except ControlPlaneError as error:
            if not self._has_landed:
                raise
            return maybe_written(error, check_after_s=RESTART_CHECK_S)
        if isinstance(outcome, Failed) and self._has_landed:
            # Its first part was written all the same.
            return InProgress(RESTART_CHECK_S, outcome.reason)
        return outcome

    async def install(self, file: ImageFile) -> Outcome:
        """Send an image; see `core.ports.Installer`.

        Raises:
            ControlPlaneError: and nothing was written.
        """
        # A page that only an open session shows: the token is good, so that the image travels once.
        await self._pages.settings()
        check_identity(self._target, (await self._pages.info()).identity)
        form = Form(file, field="file", deadline_s=upload_s(file.image.size_bytes, FIRMWARE))
        await self._api.prepare_write()
        refusal = self._permit()
        if refusal is not None:
            return Failed(refusal, retryable=True)
        try:
            page = await self._api.upload("firmware/update", form, deadline_s=FIRMWARE.check_s)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=BOOT_CHECK_S)
        return _verdict(page, BOOT_CHECK_S)[0]

    async def set_password(self, new: Secret) -> Outcome:
        """Change the password; see `core.ports.PasswordKeeper`.

        Raises:
            ControlPlaneError: and nothing was written.
        """
        if self._target.user == API_KEY_USER:
            return Failed(
                f"user {API_KEY_USER} has a key, and no password to change: declare the password's user",
                retryable=False,
            )
        # A page that only an open session shows: the token is good, so that the change travels once.
        await self._pages.settings()
        check_identity(self._target, (await self._pages.info()).identity)
        given, text = self._target.password.reveal(), new.reveal()
        body = msgspec.json.encode({"password": {"current": given, "pw": text}})
        await self._api.prepare_write()
        refusal = self._permit()
        if refusal is not None:
            return Failed(refusal, retryable=True)
        accept_s = CAPABILITIES.writes[ChangeKind.SET_POOLS].accept_s
        try:
            page = await self._api.post("settings", body, deadline_s=accept_s)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=RESTART_CHECK_S)
        return _verdict(page, RESTART_CHECK_S)[0]

    async def _apply(self, change: Change) -> Outcome:
        match change:
            case SetPools(pools=pools):
                return await self._set_pools(pools)
            case SetPowerMode(power_mode=mode):
                return await self._set_preset(mode)
            case StopMining():
                return await self._stop()
            case StartMining(power_mode=mode):
                return await self._start(mode)
            case RestartMining():
                return await self._awake("mining/restart", ChangeKind.RESTART_MINING)
            case Reboot():
                return await self._awake(_REBOOT, ChangeKind.REBOOT)
            case SetPowerLimit():
                return Failed("VNish has presets and no watt limit", retryable=False)
            case _:
                assert_never(change)

    # -- changes -----------------------------------------------------------------------------------

    async def _set_pools(self, pools: tuple[PoolSetting, ...]) -> Outcome:
        told = await self._pages.settings()
        summary = await self._pages.summary(pools=True)
        asleep = summary.mining is False
        if summary.pools is None and not asleep:
            return Failed("the pools in use cannot be read (a restart goes on)", retryable=True)
        if told.pools != pools:
            return await self._save(
                conf.with_pools(told, pools), ChangeKind.SET_POOLS, asleep=asleep
            )
        if asleep or summary.pools == pools:
            return Applied("the settings read so already; nothing was written")
        # Stored by an earlier write, and waiting for a restart of the mining process.
        return await self._send("mining/restart", b"", ChangeKind.SET_POOLS)

    async def _set_preset(self, preset: str) -> Outcome:
        told, ladder = await self._pages.settings(), await self._pages.ladder()
        if preset not in ladder.names:
            return Failed(conf.no_such_preset(preset, ladder), retryable=False)
        if told.preset == preset == conf.permitted(told, ladder):
            return Applied("the settings read so already; nothing was written")
        asleep = (await self._pages.summary(pools=False)).mining is False
        body = conf.with_preset(told, preset)
        outcome = await self._save(body, ChangeKind.SET_POWER_MODE, asleep=asleep)
        if isinstance(outcome, Applied) and preset not in ladder.tuned:
            return InProgress(
                RESTART_CHECK_S, f"preset {preset} was never tuned: it is now, which takes hours"
            )
        return outcome

    async def _stop(self) -> Outcome:
        await self._unlocked()
        try:
            is_stopped = (await self._pages.summary(pools=False)).mining is False
        except UnexpectedReply:
            is_stopped = False  # A stop waits for no page.
        if is_stopped:
            return Applied("it is stopped; nothing was written")
        return await self._send("mining/stop", b"", ChangeKind.STOP_MINING)

    async def _start(self, preset: str | None) -> Outcome:
        """Wake at the preset that is asked for: the preset first, start only once it reads so.

        The other way round a unit would draw the watts of its old preset for minutes.
        """
        await self._unlocked()
        summary = await self._pages.summary(pools=False)
        outcome: Outcome = Applied("it mines so; nothing was written")
        if preset is not None:
            outcome = await self._set_preset(preset)
        stands = summary.mining is True and summary.state != _FAILURE
        if stands or isinstance(outcome, Failed | RefusedByDevice):
            return outcome
        if self._has_landed and conf.permitted(await self._pages.settings(), ladder=None) != preset:
            return InProgress(RESTART_CHECK_S, f"preset {preset} does not read back yet")
        return await self._send("mining/start", b"", ChangeKind.START_MINING)

    async def _awake(self, name: str, kind: ChangeKind) -> Outcome:
        """Send what ends with a start, unless that would start a unit that was stopped."""
        await self._unlocked()
        return await self._would_start(name) or await self._send(name, b"", kind)

    async def _would_start(self, name: str) -> Failed | None:
        """Why a request that ends with a start is not made."""
        summary = await self._pages.summary(pools=False)
        if summary.mining is True:
            return None
        told = "it is stopped" if summary.mining is False else "its state cannot be read"
        return Failed(f"{told}, and {name} would start it", retryable=True)

    async def _set_network(self, network: StaticNetwork) -> Outcome:
        """Store them, and boot where the device says that they wait for it.

        That a boot may follow is known only afterwards, so a unit that it would start is not written to:
        settings that wait for some later boot would take it away when nobody expects it.
        """
        hostname = await self._pages.hostname()
        barred = await self._would_start(_REBOOT)
        if barred is not None:
            return barred
        body = networks.with_static(network, hostname)
        page = await self._post("settings", body, ChangeKind.SET_POOLS)
        if not isinstance(page, tuple):
            return page
        outcome, wants = page
        if not isinstance(outcome, Applied) or not wants.reboot:
            return outcome
        booted = await self._send(_REBOOT, b"", ChangeKind.REBOOT)
        if isinstance(booted, RefusedByDevice):
            return InProgress(BOOT_CHECK_S, f"it is stored, and waits for a boot: {booted.reason}")
        return booted

    # -- sending -----------------------------------------------------------------------------------

    async def _unlocked(self) -> None:
        """Have a token that lives: by a page that is locked, whatever it says."""
        with contextlib.suppress(UnexpectedReply):
            await self._api.get("settings")

    async def _save(self, body: bytes, kind: ChangeKind, *, asleep: bool) -> Outcome:
        """Post settings, and restart the mining process where the device says that they wait for it."""
        page = await self._post("settings", body, kind)
        if not isinstance(page, tuple):
            return page
        outcome, wants = page
        if not isinstance(outcome, Applied) or asleep:
            return outcome
        if wants.reboot:
            return InProgress(RESTART_CHECK_S, "it is stored; the device wants a reboot to use it")
        if not wants.restart:
            return outcome
        return await self._send("mining/restart", b"", kind)

    async def _send(self, name: str, body: bytes, kind: ChangeKind) -> Outcome:
        page = await self._post(name, body, kind)
        return page[0] if isinstance(page, tuple) else page

    async def _post(
        self, name: str, body: bytes, kind: ChangeKind
    ) -> Outcome | tuple[Outcome, _Wants]:
        """One request with a token, at most once, to the pinned machine and by permit."""
        check_identity(self._target, (await self._pages.info()).identity)
        await self._api.prepare_write()
        refusal = self._permit()
        if refusal is not None:
            return Failed(refusal, retryable=True)
        reboots = kind is ChangeKind.REBOOT
        check_s = BOOT_CHECK_S if reboots else RESTART_CHECK_S
        accept_s = CAPABILITIES.writes[kind].accept_s
        landed_before, self._has_landed = self._has_landed, True
        try:
            page = await self._api.post(name, body, deadline_s=accept_s)
        except ControlPlaneError as error:
            return maybe_written(error, check_after_s=check_s)
        outcome, wants = _verdict(page, check_s)
        if isinstance(outcome, Failed | RefusedByDevice):
            self._has_landed = landed_before
        if reboots and isinstance(outcome, Applied):
            return InProgress(check_s, "the control board reboots")
        return outcome, wants


def _verdict(page: Page, check_s: float) -> tuple[Outcome, _Wants]:
    """What the answer to a write says; anything unclear is looked at again."""
    is_json = True
    try:
        # Some builds acknowledge with nothing.
        answer = decode_reply(page.body, "answer", private=True) if page.body else {}
    except UnexpectedReply:
        answer, is_json = {}, False
    told = text_of(answer.get("err")) or f"status {page.status}"
    wants = _Wants(answer.get("restart_required") is True, answer.get("reboot_required") is True)
    if page.status == _OK and is_json:
        return Applied(), wants
    if page.status in {_BAD_REQUEST, _NOT_FOUND}:
        return RefusedByDevice(told), wants
    if page.status == _UNAUTHORIZED:
        return Failed("the session ended before the write", retryable=True), wants
    if page.status == _FORBIDDEN:
        return Failed("the device refuses the credentials", retryable=False), wants
    # 500 is how the mining process says no, and also how it fails half-way.
    return InProgress(check_s, told), wants
