"""Our Redfish client against an emulator that others wrote: sushy-tools' `sushy-emulator --fake`, over HTTPS.

What the emulator does not have (sessions, BIOS, firmware inventory, event log, power readings, tasks) has to
come out as unknown, and a write of it as refused: that is half of what is tested here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from control_plane.core.bmc import (
    EVERYTHING,
    BmcSeen,
    BootOnce,
    BootTarget,
    EjectMedia,
    InsertMedia,
    Locate,
    Power,
    PowerOff,
    PowerOn,
    SetBios,
    SetPowerCap,
    shows,
)
from control_plane.core.change import Applied, Failed
from control_plane.core.errors import Unreachable
from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.net import StreamNet
from control_plane.drivers.redfish import RedfishBmc
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.tls import make_certificate
from tests.bmcs import yes

pytestmark = pytest.mark.clients

ADDRESS = "127.0.0.1"
UP_S, APPLIED_S = 40.0, 30.0
"""It is a Flask application; and it applies a reset up to eleven seconds later, by chance."""


@contextlib.asynccontextmanager
async def emulator(python: Path, folder: Path) -> AsyncIterator[tuple[RedfishBmc, BmcTarget]]:
    """The emulator running, our client, and its first system as the pinned host."""
    certificate = make_certificate(ADDRESS)
    (folder / "crt").write_bytes(certificate.pem)
    (folder / "key").write_bytes(certificate.key_pem)
    with socket.create_server((ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(python.parent / "sushy-emulator"), "--fake", "-i", ADDRESS, "-p", str(port),
            "--ssl-certificate", str(folder / "crt"), "--ssl-key", str(folder / "key"),
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    driver = RedfishBmc(StreamNet(), SystemClock())
    target = BmcTarget(
        asset="gpu-1",
        address=ADDRESS,
        port=port,
        user="gridplane",
        password=Secret("whatever"),
        tls=TlsPin(sha256=certificate.sha256),
    )
    try:
        identity = None
        async with asyncio.timeout(UP_S):
            while identity is None:
                with contextlib.suppress(Unreachable):
                    identity = await driver.identify(target)
                    break
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.2)
        assert identity is not None
        pin = Pin(mac=None, serial=identity.serial, source="placement")
        yield driver, msgspec.structs.replace(target, pin=pin)
    finally:
        await driver.close()
        process.terminate()
        await process.wait()


async def until(driver: RedfishBmc, target: BmcTarget, holds: Callable[[BmcSeen], bool]) -> BmcSeen:
    async with asyncio.timeout(APPLIED_S):
        while True:
            seen = await driver.look(target, frozenset())
            if holds(seen):
                return seen
            await asyncio.sleep(0.3)


def test_our_client_works_with_an_emulator_of_others(clients_python: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with emulator(clients_python, tmp_path) as (driver, target):
            seen = await driver.look(target, EVERYTHING)
            assert seen.serial is not None
            assert seen.power in {Power.ON, Power.OFF}
            assert seen.resets is not None
            assert "ForceOff" in seen.resets
            assert seen.bmc_version is not None
            assert seen.sensors
            assert seen.media is not None
            assert (seen.bios, seen.firmware, seen.log, seen.power_w) == (None,) * 4

            for change, power in ((PowerOn(), Power.ON), (PowerOff(forced=True), Power.OFF)):
                sent = await driver.apply(target, change, yes)
                assert isinstance(sent.outcome, Applied)
                await until(driver, target, lambda look, power=power: look.power is power)  # type: ignore[misc]

            boot = BootOnce(target=BootTarget.PXE)
            sent = await driver.apply(target, boot, yes)
            assert isinstance(sent.outcome, Applied)
            look = await driver.look(target, frozenset())
            assert look.boot is not None
            assert look.boot.target is BootTarget.PXE

            for unknown in (SetBios(attributes={"A": 1}), SetPowerCap(watts=5_000)):
                sent = await driver.apply(target, unknown, yes)
                assert isinstance(sent.outcome, Failed)

            light = Locate(lit=True)
            sent = await driver.apply(target, light, yes)
            if isinstance(sent.outcome, Applied):
                assert shows(await driver.look(target, frozenset()), light) is True

            insert = InsertMedia(image_uri="http://127.0.0.1:9/nowhere.iso")
            sent = await driver.apply(target, insert, yes)
            assert not isinstance(sent.outcome, Failed), "it has a drive, and was asked"
            await driver.apply(target, EjectMedia(), yes)

    asyncio.run(main())
