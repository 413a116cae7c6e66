"""One host, two ways in: what the BMC does to its power is what its SSH shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import paramiko
import pytest

from control_plane.core.bmc import BootProgress, PowerCycle, PowerOff, PowerOn
from control_plane.core.change import Applied
from control_plane.core.errors import ControlPlaneError
from control_plane.hosts.connection import Target
from control_plane.hosts.keys import HostKey, Pins
from control_plane.hosts.ssh import Ssh
from control_plane.simulator.bmc_profiles import DELL
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.gpu_host import GpuMachine
from control_plane.simulator.hosts.sshd import Hall
from tests.bmcs import PASSWORD, USER, a_bmc, yes

LOGIN = paramiko.ECDSAKey.generate(bits=256)


@pytest.fixture
def hall() -> Iterator[Hall]:
    with Hall(("gpu-1",), LOGIN) as made:
        yield made


def logged_in(hall: Hall) -> bool:
    """Whether somebody can log in and run a command, now."""
    keys = {
        f"[{name}]:{hall.ports[name]}": [HostKey(key.get_name(), key.asbytes())]
        for name, key in hall.host_keys.items()
    }
    way = Ssh(LOGIN, Pins(keys), connect_s=5.0)
    machine = hall.machines["gpu-1"]
    target = Target(
        name="gpu-1", address=machine.address, port=hall.ports["gpu-1"], via=None, user="root"
    )
    try:
        with way.connect(target) as connection:
            return connection.run(("cat", "/proc/swaps")).code == 0
    except ControlPlaneError:
        return False


def in_hall(hall: Hall) -> GpuMachine:
    """A GPU host that is one of the machines behind SSH."""
    return GpuMachine(
        "gpu-1", ManualSimClock(1000.0), profile=DELL, boot_s=240.0, user=USER, password=PASSWORD,
        machine=hall.machines["gpu-1"],
        hang_up=lambda: hall.hang_up("gpu-1"),
    )  # fmt: skip


def test_a_power_cycle_drops_ssh_and_the_next_boot_has_another_id(hall: Hall) -> None:
    machine = hall.machines["gpu-1"]

    async def main() -> None:
        async with a_bmc(bmc=in_hall(hall).bmc) as bench:
            before = machine.boot_id
            assert await asyncio.to_thread(logged_in, hall)
            sent = await bench.driver.apply(bench.target, PowerCycle(), yes)
            assert isinstance(sent.outcome, Applied)
            bench.later(2.0)
            assert not await asyncio.to_thread(logged_in, hall)
            bench.later(12.0)
            assert (
                await bench.driver.look(bench.target, frozenset())
            ).progress is BootProgress.FIRMWARE
            assert not await asyncio.to_thread(logged_in, hall), "firmware runs, no system yet"
            bench.later(300.0)
            assert await asyncio.to_thread(logged_in, hall)
            assert machine.boot_id != before

    asyncio.run(main())


def test_who_is_logged_in_when_the_power_goes_is_cut_off(hall: Hall) -> None:
    async def main() -> None:
        async with a_bmc(bmc=in_hall(hall).bmc) as bench:
            client = paramiko.SSHClient()
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507 — made a moment ago
            machine = hall.machines["gpu-1"]
            await asyncio.to_thread(
                client.connect, machine.address, hall.ports["gpu-1"], "root", pkey=LOGIN
            )
            transport = client.get_transport()
            assert transport is not None
            assert transport.is_active()
            await bench.driver.apply(bench.target, PowerOff(forced=True), yes)
            bench.later(2.0)
            await asyncio.to_thread(transport.join, 10.0)
            assert not transport.is_active()
            client.close()
            await bench.driver.apply(bench.target, PowerOn(), yes)
            bench.later(300.0)
            assert await asyncio.to_thread(logged_in, hall)

    asyncio.run(main())
