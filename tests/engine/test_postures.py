"""How open the devices of a site are, by the password that they really have."""

from __future__ import annotations

import msgspec

from control_plane.core.fleet import Credentials, Device
from control_plane.core.memory import Memory
from control_plane.core.posture import Password
from control_plane.core.secret import Secret
from control_plane.core.world import World
from control_plane.drivers.registry import all_capabilities
from control_plane.engine.postures import known_postures
from tests.core.builders import NOW_S, seen
from tests.engine.running import intending, small_site


class Known:
    def resolve(self, ref: str) -> Secret:
        return Secret({"env:OLD": "root", "env:NEW": "long and new"}[ref])


def test_while_a_password_is_rotated_the_one_that_logs_in_is_judged() -> None:
    credentials = Credentials(user="root", secret_ref="env:NEW", previous=("env:OLD",))

    def rotating(device: Device) -> Device:
        return intending(device, credentials=credentials)

    site = small_site(rotating)
    device = next(d for d in site.devices if d.intent.family == "antminer_stock")
    site = msgspec.structs.replace(site, devices=(device,))
    sighting = seen(asset=device.asset)
    for login, password in {"env:OLD": Password.FACTORY, "env:NEW": Password.CHANGED}.items():
        memory = Memory(asset=device.asset, login=login)
        world = World(
            now_s=NOW_S,
            sightings={device.asset: sighting},
            memories={device.asset: memory},
            capabilities=all_capabilities(),
        )
        assert known_postures(site, world, Known())[device.asset].password is password
