"""Many BMCs in one process: each at its own address, with its own certificate, host and session."""

from __future__ import annotations

import asyncio

from control_plane.core.bmc import Part, Power, PowerOff
from control_plane.core.change import Applied, Failed
from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.drivers.redfish import RedfishBmc
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_chassis import BareChassis
from control_plane.simulator.bmc_profiles import PROFILES
from control_plane.simulator.bmc_server import BmcServer, station_of
from control_plane.simulator.clock import RealSimClock
from control_plane.simulator.network import Network
from tests.bmcs import PASSWORD, USER, yes

HOSTS = 24


def test_a_hall_is_looked_at_at_once_and_a_dead_one_holds_up_nobody() -> None:
    clock = RealSimClock(200.0)
    network = Network()
    bmcs: dict[str, Bmc] = {}
    targets: dict[str, BmcTarget] = {}
    profiles = tuple(PROFILES.values())
    for n in range(HOSTS):
        asset, address = f"gpu-{n}", f"127.31.2.{n + 1}"
        chassis = BareChassis(f"S{n:04d}")
        bmc = Bmc(profiles[n % len(profiles)], chassis, clock, user=USER, password=PASSWORD)
        station = station_of(bmc, asset, address)
        network.add(station)
        assert station.certificate is not None
        bmcs[asset] = bmc
        targets[asset] = BmcTarget(
            asset=asset,
            address=address,
            user=USER,
            password=Secret(PASSWORD),
            tls=TlsPin(sha256=station.certificate.sha256),
            pin=Pin(mac=None, serial=chassis.serial, source="placement"),
        )

    async def main() -> None:
        server = BmcServer(network)
        await server.start()
        net = StreamNet(NetworkMap([("127.31.0.0/16", "127.31.0.0/16")], server.ports))
        driver = RedfishBmc(net, SystemClock(scale=200.0))
        try:
            draw = frozenset({Part.DRAW})
            looks = [driver.look(target, draw) for target in targets.values()]
            seen = dict(zip(targets, await asyncio.gather(*looks), strict=True))
            assert {a: s.serial for a, s in seen.items()} == {
                a: b.chassis.serial for a, b in bmcs.items()
            }
            assert sum(s.power_w or 0.0 for s in seen.values()) == 2_000.0 * HOSTS
            # One host's certificate is no pass to another's: its address with a neighbour's pin.
            crossed = BmcTarget(
                asset="gpu-0",
                address=targets["gpu-1"].address,
                user=USER,
                password=Secret(PASSWORD),
                tls=targets["gpu-0"].tls,
                pin=targets["gpu-0"].pin,
            )
            sent = await driver.apply(crossed, PowerOff(forced=True), yes)
            assert isinstance(sent.outcome, Failed)
            assert bmcs["gpu-1"].resets == []

            bmcs["gpu-3"].away_until_s = 1e9
            offs = [driver.apply(target, PowerOff(forced=True), yes) for target in targets.values()]
            outcomes = [sent.outcome for sent in await asyncio.gather(*offs)]
            assert sum(isinstance(outcome, Applied) for outcome in outcomes) == HOSTS - 1
            await asyncio.sleep(0.1)
            alive = [target for asset, target in targets.items() if asset != "gpu-3"]
            looks = [driver.look(target, frozenset()) for target in alive]
            assert {s.power for s in await asyncio.gather(*looks)} == {Power.OFF}
            assert bmcs["gpu-3"].power == "On"
        finally:
            await driver.close()
            await server.stop()
        assert all(
            not bmc.sessions for asset, bmc in bmcs.items() if asset not in {"gpu-0", "gpu-3"}
        )
        assert {bmc.logins for bmc in bmcs.values()} <= {1, 2}

    asyncio.run(main())
