"""VNish on Antminers: JSON over HTTP on port 80.

The hot path is one connection and one page: `/summary` tells hash, watts, boards, fans, whether it is
stopped, and the pools in use. What a write is decided from are `/settings` and, for presets,
`/autotune/presets`, read right before it; whose machine it is comes from `/info` over the same connection.

`power_mode` is the highest preset that the settings permit, not the one that runs: `preset_switcher` moves
a unit with its temperature (asic-devices reference, trap 3). A unit that runs on another one than it is
configured for says so among its errors.

Tried on: the simulator, which was written from the firmware's swagger document. All traps: asic-devices
reference, §1 and §2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from control_plane.core.catalogue import Facts
from control_plane.core.change import Capabilities, Change, Failed, Outcome, SetPools, SetPowerLimit
from control_plane.core.errors import ControlPlaneError, UnexpectedReply
from control_plane.core.observation import Depth, Field, Identity, Observation, Settings
from control_plane.drivers import vnish_conf as conf
from control_plane.drivers import vnish_reads as reads
from control_plane.drivers.driver import fits, not_written, unfit
from control_plane.drivers.vnish_costs import CAPABILITIES, PASSWORDS
from control_plane.drivers.vnish_pages import Pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from control_plane.core.fleet import StaticNetwork
    from control_plane.core.ports import Clock, ImageFile, Net, Permit, Target
    from control_plane.core.secret import Secret
    from control_plane.drivers.vnish_web import ApiSession, Tokens
    from control_plane.drivers.vnish_writes import Writer

_SOURCE: Final = "vnish http"
_TELLS_MINING: Final = frozenset({Field.MINING})
_TELLS_POOLS: Final = frozenset({Field.POOLS})


class VnishDriver:
    """The driver of family `vnish`."""

    def __init__(self, net: Net, clock: Clock) -> None:
        self._net = net
        self._clock = clock
        self._tokens: Tokens | None = None
        """Lost with this process; the next one unlocks again."""

    @property
    def capabilities(self) -> Capabilities:
        """What the family can do."""
        return CAPABILITIES

    async def identify(self, target: Target) -> Identity:
        """MAC, type and on most builds a serial, by `/info`, which is open to everybody."""
        api = self._api(target)
        try:
            return (await Pages(api, target.address).info()).identity
        finally:
            api.close()

    async def observe(self, target: Target, depth: Depth) -> Observation:
        """One look; see `core.ports.Driver`. Every depth is one connection."""
        api = self._api(target)
        pages = Pages(api, target.address)
        try:
            summary = await pages.summary(pools=depth is not Depth.TELEMETRY)
            if depth is Depth.FULL:
                return await self._full(target, pages, summary)
        finally:
            api.close()
        # While the mining process restarts it cannot be asked, and a stopped one may list no pools.
        asked = frozenset() if summary.state is None else _TELLS_MINING
        pools = None
        if depth is Depth.POOLS and asked and (summary.mining is not False or summary.pools):
            asked, pools = asked | _TELLS_POOLS, summary.pools
        return Observation(
            asset=target.asset,
            at_s=self._clock.wall_s(),
            depth=depth,
            source=_SOURCE,
            settings=Settings(mining=summary.mining, pools=pools),
            asked=asked,
            telemetry=summary.telemetry,
        )

    async def apply(self, target: Target, change: Change, permit: Permit) -> Outcome:
        """Send one change; see `core.ports.Driver`.

        Waking at another preset takes two requests, and so does a setting for which the device wants a
        restart of the mining process.
        """
        refusal = _refusal(change)
        if refusal is not None:
            return Failed(refusal, retryable=False)
        return await self._writing(target, permit, lambda writer: writer.apply(change))

    async def facts(self, target: Target) -> tuple[Identity, Facts]:
        """Version, type and platform by `/info`, which is open to everybody."""
        api = self._api(target)
        try:
            info = await Pages(api, target.address).info()
        finally:
            api.close()
        return info.identity, Facts(
            version=info.firmware, model=info.identity.model, control_board=info.platform
        )

    async def install(self, target: Target, file: ImageFile, permit: Permit) -> Outcome:
        """`/firmware/update` keeps the settings; the device checks the image, answers, boots into it."""
        return await self._writing(target, permit, lambda writer: writer.install(file))

    async def roll_back(self, target: Target, permit: Permit) -> Outcome:
        """It cannot: `/firmware/remove` is another family's firmware, and a person's work."""
        del target, permit
        return Failed("this family has nothing to go back to", retryable=False)

    async def log_in(self, target: Target) -> Identity:
        """`POST /unlock` over a connection of its own, without a token that was given before."""
        from control_plane.drivers.vnish_web import ApiSession, Tokens  # noqa: PLC0415

        api = ApiSession(self._net, target, Tokens())
        try:
            await api.log_in()
            return (await Pages(api, target.address).info()).identity
        finally:
            api.close()

    async def set_password(self, target: Target, new: Secret, permit: Permit) -> Outcome:
        """`/settings` with nothing but the password; sessions end with it."""
        if not fits(PASSWORDS, new):
            return unfit(PASSWORDS)
        return await self._writing(target, permit, lambda writer: writer.set_password(new))

    async def set_network(self, target: Target, network: StaticNetwork, permit: Permit) -> Outcome:
        """`/settings` with nothing but `network`, and a boot where the device wants one for it."""
        return await self._writing(target, permit, lambda writer: writer.set_network(network))

    async def _writing(
        self, target: Target, permit: Permit, write: Callable[[Writer], Awaitable[Outcome]]
    ) -> Outcome:
        """One write over one connection; what it raises left nothing written."""
        # What only writes need is loaded with the first of them.
        from control_plane.drivers.vnish_writes import Writer  # noqa: PLC0415

        api = self._api(target)
        try:
            return await write(Writer(target, api, Pages(api, target.address), permit))
        except ControlPlaneError as error:
            return not_written(error)
        finally:
            api.close()

    def _api(self, target: Target) -> ApiSession:
        # Framing is loaded with the first look, not by a plan.
        from control_plane.drivers.vnish_web import ApiSession, Tokens  # noqa: PLC0415

        if self._tokens is None:
            self._tokens = Tokens()
        return ApiSession(self._net, target, self._tokens)

    async def _full(self, target: Target, pages: Pages, summary: reads.Summary) -> Observation:
        info = await pages.info()
        pools, mode, errors = None, None, summary.telemetry.errors
        try:
            told = await pages.settings()
            ladder = await pages.ladder() if told.is_unbounded else None
            if summary.state is not None:
                # A half-booted unit may print a config of the factory: two sources, or none.
                mode = conf.permitted(told, ladder)
                pools = told.pools if summary.mining is False else summary.pools
            # Nothing but the switcher moves it, so nobody else is asked what runs.
            runs = None if told.switcher is None else await pages.running_preset()
            if runs is not None and runs != told.preset:
                errors += (f"preset {runs} runs, {told.preset} is configured",)
        except UnexpectedReply:
            # Nothing is written from what could not be read whole; the rest of the look stands.
            pools = mode = None
        return Observation(
            asset=target.asset,
            at_s=self._clock.wall_s(),
            depth=Depth.FULL,
            source=_SOURCE,
            identity=info.identity,
            settings=Settings(
                pools=pools,
                mining=summary.mining,
                power_mode=mode,
                firmware=info.firmware,
                addressing=info.addressing,
            ),
            asked=CAPABILITIES.reads,
            telemetry=msgspec.structs.replace(
                summary.telemetry, uptime_s=info.uptime_s, errors=errors
            ),
            write_enabled=True,
        )


def _refusal(change: Change) -> str | None:
    """Why a change is not even tried."""
    if isinstance(change, SetPowerLimit):
        return "VNish has presets and no watt limit"
    if isinstance(change, SetPools):
        if not change.pools:
            return "a write that would leave no pool"
        if len(change.pools) > conf.SLOTS:
            return f"{len(change.pools)} pools, and {conf.SLOTS} slots"
    return None
