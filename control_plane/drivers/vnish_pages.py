"""The pages of one device under VNish as values: what looks and writes have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.drivers import vnish_conf as conf
from control_plane.drivers import vnish_network as networks
from control_plane.drivers import vnish_reads as reads
from control_plane.drivers.driver import decode_reply

if TYPE_CHECKING:
    from control_plane.drivers.vnish_web import ApiSession


class Pages:
    """Reads of one device within one call; each is one request, and raises as `ApiSession.get`."""

    def __init__(self, api: ApiSession, address: str) -> None:
        self._api = api
        self._address = address

    async def info(self) -> reads.Info:
        """Who answers; open to everybody."""
        what = f"{self._address} info"
        return reads.read_info(decode_reply(await self._api.get("info"), what), what)

    async def summary(self, *, pools: bool) -> reads.Summary:
        """What it does; unlocked, and asked again, where `pools` are wanted and workers are masked."""
        summary = await self._summary()
        if pools and summary.is_masked:
            await self._api.unlock()
            summary = await self._summary()
        return summary

    async def settings(self) -> conf.Conf:
        """What is configured."""
        what = f"{self._address} settings"
        return conf.read_conf(decode_reply(await self._api.get("settings"), what, private=True))

    async def hostname(self) -> str:
        """The host name that is configured."""
        what = f"{self._address} settings"
        page = await self._api.get("settings")
        return networks.read_hostname(decode_reply(page, what, private=True))

    async def ladder(self) -> conf.Ladder:
        """Its presets."""
        # The page is a bare list, and only objects are decoded.
        page = b'{"presets":' + await self._api.get("autotune/presets") + b"}"
        return conf.read_ladder(decode_reply(page, f"{self._address} presets")["presets"])

    async def running_preset(self) -> str | None:
        """The preset that runs."""
        what = f"{self._address} perf-summary"
        reply = decode_reply(await self._api.get("perf-summary"), what)
        return reads.read_running_preset(reply)

    async def _summary(self) -> reads.Summary:
        what = f"{self._address} summary"
        return reads.read_summary(decode_reply(await self._api.get("summary"), what), what)
