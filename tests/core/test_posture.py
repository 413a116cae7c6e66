"""How open a device is, from what is known without asking it: a table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.core.change import Capabilities
from control_plane.core.fleet import Credentials, Device, SlotState
from control_plane.core.observation import (
    Depth,
    Field,
    Identity,
    Observation,
    Sighting,
    Unseen,
    UnseenReason,
)
from control_plane.core.posture import (
    FACTORY,
    Password,
    WriteApi,
    is_factory,
    posture_of,
    tally,
    urgency,
)
from control_plane.core.secret import Secret
from control_plane.drivers.registry import FAMILIES, all_capabilities
from control_plane.views.posture import posture_table, tally_line
from tests.core.builders import device, intent

CAPABILITIES = all_capabilities()


def of(family: str, user: str = "root") -> Device:
    credentials = Credentials(user=user, secret_ref="env:X")
    return device(intent=msgspec.structs.replace(intent(), family=family, credentials=credentials))


def seen(**more: Any) -> Observation:
    known = {"asset": "d1", "at_s": 0.0, "depth": Depth.FULL, "source": "test"}
    return Observation(**{**known, "identity": Identity(mac="02:00:00:00:00:01"), **more})


def unseen(reason: UnseenReason) -> Unseen:
    return Unseen(asset="d1", at_s=0.0, reason=reason, detail="")


HOT = seen(depth=Depth.TELEMETRY, identity=None)
SHUT, OPEN = seen(write_enabled=False), seen(write_enabled=True)
REFUSED = unseen(UnseenReason.AUTH_REJECTED)

TABLE: list[tuple[str, str, Sighting | None, bool | None, Password, WriteApi]] = [
    ("its maker's works", "antminer_stock", seen(), True, Password.FACTORY, WriteApi.LOGIN),
    ("another works", "antminer_stock", seen(), False, Password.CHANGED, WriteApi.LOGIN),
    ("nobody knows which", "antminer_stock", seen(), None, Password.UNKNOWN, WriteApi.LOGIN),
    ("a hot look proves none", "antminer_stock", HOT, True, Password.UNKNOWN, WriteApi.LOGIN),
    ("never seen", "antminer_stock", None, True, Password.UNKNOWN, WriteApi.LOGIN),
    ("refuses its maker's", "antminer_stock", REFUSED, True, Password.CHANGED, WriteApi.LOGIN),
    ("refuses another", "antminer_stock", REFUSED, False, Password.UNKNOWN, WriteApi.LOGIN),
    ("vnish", "vnish", seen(), True, Password.FACTORY, WriteApi.LOGIN),
    ("luxos has none", "luxos", seen(), None, Password.NONE, WriteApi.OPEN),
    ("luxos unseen too", "luxos", None, None, Password.NONE, WriteApi.OPEN),
    ("reads prove nothing", "whatsminer_v2", seen(), True, Password.UNKNOWN, WriteApi.UNKNOWN),
    ("writes are off", "whatsminer_v2", SHUT, True, Password.UNKNOWN, WriteApi.CLOSED),
    ("a write went through", "whatsminer_v2", OPEN, True, Password.FACTORY, WriteApi.LOGIN),
    ("with a good password", "whatsminer_v2", OPEN, False, Password.CHANGED, WriteApi.LOGIN),
]


@pytest.mark.parametrize(
    ("family", "sighting", "declares", "password", "write_api"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_what_is_known_without_asking(
    *,
    family: str,
    sighting: Sighting | None,
    declares: bool | None,
    password: Password,
    write_api: WriteApi,
) -> None:
    found = posture_of(
        of(family), sighting, capabilities=CAPABILITIES[family], declares_factory=declares
    )
    assert found is not None
    assert (found.password, found.write_api) == (password, write_api)
    bad = password in {Password.FACTORY, Password.UNKNOWN} or write_api in {
        WriteApi.OPEN,
        WriteApi.CLOSED,
    }
    assert found.needs_somebody == bad


def test_an_api_key_proves_no_password() -> None:
    keyed = of("vnish", user="x-api-key")
    found = posture_of(keyed, seen(), capabilities=CAPABILITIES["vnish"], declares_factory=False)
    assert found is not None
    assert found.password is Password.UNKNOWN


def test_who_is_not_managed_or_has_no_driver_has_no_posture() -> None:
    away = msgspec.structs.replace(of("vnish"), state=SlotState.IN_REPAIR)
    for one, capabilities in ((away, CAPABILITIES["vnish"]), (of("braiins_os"), None)):
        assert posture_of(one, seen(), capabilities=capabilities, declares_factory=None) is None


def test_a_family_without_a_login_that_is_not_open_is_unknown() -> None:
    closed = Capabilities(family="x", reads=frozenset({Field.POOLS}), writes={})
    found = posture_of(of("x"), seen(), capabilities=closed, declares_factory=None)
    assert found is not None
    assert (found.password, found.write_api) == (Password.UNKNOWN, WriteApi.UNKNOWN)


def test_only_the_makers_own_password_is_the_makers() -> None:
    assert is_factory("antminer_stock", Secret("root"))
    assert not is_factory("antminer_stock", Secret("admin"))
    assert not is_factory("luxos", Secret(""))
    assert set(FACTORY) <= set(FAMILIES)


def test_people_get_each_thing_to_do_once_with_its_devices_counted() -> None:
    postures = [
        posture_of(
            msgspec.structs.replace(of("antminer_stock"), asset=f"m-{number}"),
            seen(),
            capabilities=CAPABILITIES["antminer_stock"],
            declares_factory=number < 2,
        )
        for number in range(3)
    ]
    found = [posture for posture in postures if posture is not None]
    assert [p.asset for p in sorted([found[2], *found[:2]], key=urgency)] == ["m-0", "m-1", "m-2"]
    text = posture_table([p for p in found if p.needs_somebody], of=3)
    assert text.count("give it a password of its own") == 1
    assert "2 devices: give it a password" in text
    assert tally_line(tally(found)) == [
        "Posture     2 with their maker's password: gridplane posture"
    ]
    assert tally_line(tally(found[2:])) == []
    assert posture_table([], of=3) == "Nothing to do on 3 devices."
