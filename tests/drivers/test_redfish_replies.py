"""What BMCs say, as tables and as chance: nothing but the error tree comes out, whatever comes in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.bmc import (
    EVERYTHING,
    BiosValue,
    BmcChange,
    BootOnce,
    BootOverride,
    BootTarget,
    EjectMedia,
    Health,
    InsertMedia,
    Locate,
    Power,
    PowerCap,
    PowerCycle,
    PowerOff,
    PowerOn,
    Restart,
    Sent,
    SetBios,
    SetPowerCap,
    TaskState,
    UpdateFirmware,
)
from control_plane.core.bmc_quirks import QUIRKS, Maker
from control_plane.core.change import Applied, Failed, InProgress, RefusedByDevice
from control_plane.core.errors import ControlPlaneError, Unreachable
from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget, Connection
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.driver import Reply
from control_plane.drivers.http_framing import Page
from control_plane.drivers.redfish import RedfishBmc
from control_plane.drivers.redfish_reads import (
    attributes_in,
    cap_in,
    entries_in,
    firmware_in,
    identity_from,
    is_cd,
    log_in_order,
    maker_from,
    media_in,
    pending_in,
    reset_of,
    resets_in,
    seen_from,
    sensors_in,
    task_in,
    watts_in,
)
from control_plane.drivers.redfish_session import link, members, message_of, path_of
from control_plane.drivers.redfish_writes import Around, Write, told, write_of
from control_plane.engine.adapters import SystemClock
from tests.bmcs import yes

ADDRESS = "10.8.0.9"
TARGET = BmcTarget(
    asset="gpu-1",
    address=ADDRESS,
    user="gridplane",
    password=Secret("x"),
    tls=TlsPin(sha256="0" * 64),
    pin=Pin(mac=None, serial="S1", source="placement"),
)

PATHS: dict[str, tuple[object, str | None]] = {
    "a path": ("/redfish/v1/Systems/1", "/redfish/v1/Systems/1"),
    "with a slash": ("/redfish/v1/Systems/1/", "/redfish/v1/Systems/1/"),
    "with a fragment": (
        "/redfish/v1/Chassis/1/Power#/PowerControl/0",
        "/redfish/v1/Chassis/1/Power",
    ),
    "with a query": ("/redfish/v1/Systems?$top=5", "/redfish/v1/Systems?$top=5"),
    "of Dell": ("/redfish/v1/TaskService/Tasks/JID_123", "/redfish/v1/TaskService/Tasks/JID_123"),
    "whole, to itself": (f"https://{ADDRESS}/redfish/v1/Tasks/1", "/redfish/v1/Tasks/1"),
    "whole, to another": ("https://10.8.0.10/redfish/v1/Tasks/1", None),
    "whole, with a user": (f"https://{ADDRESS}@evil.test/redfish/v1/Tasks/1", None),
    "without a scheme": ("//evil.test/redfish/v1/Tasks/1", None),
    "out of the service": ("/cgi-bin/reboot", None),
    "up": ("/redfish/v1/../../etc/passwd", None),
    "two lines": ("/redfish/v1/Systems/1\r\nX-Evil: 1", None),
    "a blank": ("/redfish/v1/Systems/1 HTTP/1.1", None),
    "a number": (7, None),
    "long": ("/redfish/v1/" + "x" * 600, None),
    "no address": ("https://[/redfish/v1/", None),
}


@pytest.mark.parametrize("case", PATHS)
def test_links_lead_to_the_same_host_or_nowhere(case: str) -> None:
    given_, path = PATHS[case]
    assert path_of(given_, ADDRESS) == path


MAKERS: list[tuple[Reply, Reply, Maker]] = [
    ({"Vendor": "AMI"}, {"Manufacturer": "NVIDIA"}, Maker.NVIDIA),
    ({"Vendor": "Dell"}, {}, Maker.DELL),
    ({"Oem": {}}, {"Manufacturer": "Super Micro Computer, Inc."}, Maker.SUPERMICRO),
    ({"Product": "ProLiant of Hewlett Packard Enterprise"}, {}, Maker.HPE),
    ({}, {"Manufacturer": "Lenovo"}, Maker.LENOVO),
    ({}, {"Manufacturer": None}, Maker.OTHER),
]


@pytest.mark.parametrize(("root", "system", "maker"), MAKERS)
def test_the_maker_is_told_by_its_own_words(root: Reply, system: Reply, maker: Maker) -> None:
    assert maker_from(root, system) is maker


SERIALS: list[tuple[Maker, Reply, str | None]] = [
    (Maker.DELL, {"SKU": "7XK2J94", "SerialNumber": "CNIVC0098T0123"}, "7XK2J94"),
    (Maker.SUPERMICRO, {"SKU": "SYS-821", "SerialNumber": " S412 "}, "S412"),
    (Maker.OTHER, {"SerialNumber": "To be filled by O.E.M.", "UUID": "AB-1"}, "ab-1"),
    (Maker.OTHER, {"UUID": "AB-1"}, "ab-1"),
    (Maker.OTHER, {"SerialNumber": ["S412"]}, None),
]


@pytest.mark.parametrize(("maker", "system", "serial"), SERIALS)
def test_the_serial_is_the_one_on_the_label(
    maker: Maker, system: Reply, serial: str | None
) -> None:
    assert identity_from(system, maker).serial == serial


@pytest.mark.parametrize(
    ("state", "power"),
    [
        ("On", Power.ON),
        ("Off", Power.OFF),
        ("on", None),
        ("Reset", None),
        (None, None),
        (["On"], None),
    ],
)
def test_a_word_for_power_that_is_none_is_unknown_and_not_off(
    state: Any, power: Power | None
) -> None:
    assert seen_from({"PowerState": state}, Maker.OTHER, None).power is power


CAPS: list[tuple[Reply | None, Reply | None, PowerCap | None]] = [
    ({"PowerControl": [{"PowerLimit": {"LimitInWatts": 500}}]}, None, PowerCap(watts=500.0)),
    ({"PowerControl": [{"PowerLimit": {"LimitInWatts": None}}]}, None, PowerCap(watts=None)),
    ({"PowerControl": [{"PowerLimit": {"LimitInWatts": 0}}]}, None, PowerCap(watts=None)),
    ({"PowerControl": [{"PowerLimit": {}}]}, None, None),
    ({"PowerControl": []}, None, None),
    (None, {"PowerLimitWatts": {"SetPoint": 900, "ControlMode": "Disabled"}}, PowerCap(watts=None)),
    (
        None,
        {"PowerLimitWatts": {"SetPoint": 900, "AllowableMax": 1000}},
        PowerCap(watts=900.0, max_w=1e3),
    ),
    (None, {"PowerLimitWatts": None}, None),
    (None, None, None),
]


@pytest.mark.parametrize(("power", "environment", "cap"), CAPS)
def test_a_cap_that_is_off_is_not_a_cap_of_zero(
    power: Reply | None, environment: Reply | None, cap: PowerCap | None
) -> None:
    assert cap_in(power, environment) == cap


def test_pending_is_what_is_not_in_force() -> None:
    now: dict[str, BiosValue] = {"A": "x", "B": 1}
    assert pending_in(now, {"Attributes": {"A": "x", "B": 2}}) == {"B": 2}
    assert pending_in(now, {"Attributes": {}}) == {}
    assert pending_in(now, {"Attributes": None}) is None
    assert pending_in({"A": None}, {"Attributes": {"B": None}}) == {"B": None}


TASKS: list[tuple[Reply, TaskState | None]] = [
    ({"TaskState": "Running", "PercentComplete": 40}, TaskState.RUNNING),
    ({"TaskState": "Completed", "TaskStatus": "OK"}, TaskState.DONE),
    ({"TaskState": "Completed", "TaskStatus": "Critical"}, TaskState.FAILED),
    ({"TaskState": "Exception"}, TaskState.FAILED),
    ({"TaskState": "Killed"}, TaskState.FAILED),
    ({"TaskState": "Somehow"}, TaskState.RUNNING),
    ({"Id": "1"}, None),
]


@pytest.mark.parametrize(("reply", "state"), TASKS)
def test_a_word_that_is_no_end_ends_no_task(reply: Reply, state: TaskState | None) -> None:
    seen = task_in(reply)
    assert (None if seen is None else seen.state) is state


def test_the_systems_log_goes_before_others_and_entries_newest_first() -> None:
    services: list[tuple[str, Reply]] = [
        ("/redfish/v1/Managers/1/LogServices/Audit", {}),
        ("/redfish/v1/Systems/1/LogServices/IML", {}),
        ("/redfish/v1/Managers/1/LogServices/X", {"LogEntryType": "SEL"}),
    ]
    assert [path[-3:] for path in log_in_order(services)] == ["s/X", "IML", "dit"]
    found = entries_in(
        {
            "Members": [
                {"Id": "1", "Message": "old", "Created": "2026-01-01T00:00:00Z", "Severity": "OK"},
                {"Id": "2", "Message": "new", "Created": "2026-02-01T00:00:00+00:00"},
                {"Id": "3"},
                "nonsense",
            ]
        }
    )
    assert [(entry.id, entry.health) for entry in found] == [("2", None), ("1", Health.OK)]


def test_an_override_that_is_switched_off_boots_from_nowhere_else() -> None:
    boot = {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Disabled"}
    seen = seen_from({"Boot": boot}, Maker.OTHER, None)
    assert seen.boot == BootOverride(target=BootTarget.NONE, once=False)


# -- answers to writes -------------------------------------------------------------------------------

ANSWERS: list[tuple[int, bytes, dict[str, str], Sent]] = [
    (204, b"", {}, Sent(outcome=Applied("status 204"))),
    (
        202,
        b"",
        {"location": "/redfish/v1/TaskService/TaskMonitors/4"},
        Sent(outcome=InProgress(10.0, "status 202"), task="/redfish/v1/TaskService/TaskMonitors/4"),
    ),
    (
        202,
        b'{"@odata.id":"/redfish/v1/TaskService/Tasks/4","TaskState":"New"}',
        {"location": "https://evil.test/redfish/v1/x"},
        Sent(outcome=InProgress(10.0, "status 202"), task="/redfish/v1/TaskService/Tasks/4"),
    ),
    (
        400,
        b'{"error":{"@Message.ExtendedInfo":[{"Message":"No such value."}]}}',
        {},
        Sent(outcome=RefusedByDevice("status 400: No such value.")),
    ),
    (404, b"", {}, Sent(outcome=RefusedByDevice("status 404"))),
    (308, b"", {}, Sent(outcome=RefusedByDevice("status 308"))),
    (501, b"", {}, Sent(outcome=RefusedByDevice("status 501"))),
    (503, b"", {}, Sent(outcome=Failed("the BMC is busy (status 503)", retryable=True))),
    (500, b"oops", {}, Sent(outcome=InProgress(30.0, "status 500"))),
]


@pytest.mark.parametrize(("status", "body", "headers", "sent"), ANSWERS)
def test_what_an_answer_to_a_write_means(
    status: int, body: bytes, headers: dict[str, str], sent: Sent
) -> None:
    page = Page(status=status, headers=headers, body=body, keeps_alive=True)
    write = Write(method="POST", path="/redfish/v1/x", body={})
    assert told(page, write, ADDRESS) == sent


# -- whatever comes ----------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "@odata.id", "Members", "Systems", "Links", "Chassis", "ManagedBy", "Managers", "Sessions",
        "PowerState", "SerialNumber", "Boot", "Status", "Actions", "#ComputerSystem.Reset", "target",
        "Bios", "Attributes", "Power", "PowerControl", "PowerLimit", "Thermal", "Temperatures", "Fans",
        "UpdateService", "FirmwareInventory", "LogServices", "Entries", "Created", "VirtualMedia",
        "MediaTypes", "BootProgress", "IndicatorLED", "Name", "Id", "Message", "TaskState", "Reading",
        "ResetType@Redfish.AllowableValues", "Parameters", "PowerLimitWatts", "error", "UUID",
        "@Redfish.Settings", "SettingsObject", "@Message.ExtendedInfo", "ReadingUnits", "ReadingType",
    ]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from(
        ["/redfish/v1/Systems/1", "On", "OK", "UEFI", "2026-01-01T00:00:00Z", "9999-12-31"]
    ),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=12)


@settings(max_examples=60, deadline=None)
@given(OBJECTS, OBJECTS, st.sampled_from(Maker))
def test_whatever_a_resource_holds_is_understood_or_unknown(
    one: Reply, two: Reply, maker: Maker
) -> None:
    seen_from(one, maker, resets_in(reset_of(one), two))
    maker_from(one, two)
    watts_in(one, two), cap_in(one, two)
    attributes = attributes_in(one)
    if attributes is not None:
        pending_in(attributes, two)
    firmware_in("/redfish/v1/x", one)
    sensors_in(one, two, [two, one])
    log_in_order([("/a", one), ("/b", two)])
    entries_in(one)
    is_cd(one), media_in(one), task_in(one), members(one, ADDRESS), link(one, "Systems", ADDRESS)
    message_of(msgspec.json.encode(one))


CHANGES: tuple[BmcChange, ...] = (
    PowerOn(),
    PowerOff(),
    PowerOff(forced=True),
    PowerCycle(),
    Restart(),
    Restart(forced=True),
    BootOnce(target=BootTarget.PXE),
    BootOnce(target=BootTarget.OTHER),
    SetBios(attributes={"A": 1}),
    SetBios(attributes={}),
    SetPowerCap(watts=5),
    SetPowerCap(watts=None),
    InsertMedia(image_uri="http://x/y.iso"),
    EjectMedia(),
    Locate(lit=True),
    UpdateFirmware(image_uri="http://x/y.bin", targets=("A",)),
)


@settings(max_examples=60, deadline=None)
@given(OBJECTS, OBJECTS, st.sampled_from(CHANGES), st.sampled_from(Maker))
def test_whatever_was_read_a_write_goes_to_a_path_of_the_service_or_nowhere(
    one: Reply, two: Reply, change: BmcChange, maker: Maker
) -> None:
    around = Around(
        system_path="/redfish/v1/Systems/1",
        system=one,
        quirks=QUIRKS[maker],
        resets=resets_in(reset_of(two), one),
        bios=("/redfish/v1/Systems/1/Bios/Settings", two),
        cap=("/redfish/v1/Chassis/1/Power", two),
        drive=two,
        update=two,
        inventory={"A": "/redfish/v1/UpdateService/FirmwareInventory/A"},
        address=ADDRESS,
    )
    write = write_of(change, around)
    assert isinstance(write, Failed) or path_of(write.path, ADDRESS) == write.path


class Babbler:
    """A network in which every request is answered by the next of some bytes."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self.asked: list[bytes] = []

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        del address, port, deadline_s
        assert tls is not None
        return _Babble(self)

    def next(self) -> bytes:
        return self._answers.pop(0) if self._answers else b""


class _Babble:
    def __init__(self, net: Babbler) -> None:
        self._net = net

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        del deadline_s, max_bytes
        self._net.asked.append(payload)
        buffer = bytearray(self._net.next())
        if complete(buffer, False) or complete(buffer, True):  # noqa: FBT003 — the port's own signature
            return bytes(buffer)
        raise Unreachable("closed")

    async def send(self, pieces: object, *, deadline_s: float) -> None:
        raise AssertionError("nothing is that large")

    def close(self) -> None:
        pass


def framed(body: bytes, status: int = 200) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nX-Auth-Token: t\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ANSWER = st.one_of(
    st.binary(max_size=80),
    OBJECTS.map(msgspec.json.encode).map(framed),
    st.builds(framed, st.binary(max_size=60), st.integers(100, 599)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ANSWER, max_size=12), st.sampled_from(CHANGES))
def test_whatever_the_bytes_a_call_ends_in_the_error_tree(
    answers: list[bytes], change: BmcChange
) -> None:
    async def main() -> None:
        root = framed(msgspec.json.encode({"Systems": {"@odata.id": "/redfish/v1/Systems"}}))
        driver = RedfishBmc(Babbler([root, root, *answers]), SystemClock())
        with contextlib.suppress(ControlPlaneError):
            await driver.look(TARGET, EVERYTHING)
        sent = await driver.apply(TARGET, change, yes)
        assert isinstance(sent.outcome, Applied | InProgress | RefusedByDevice | Failed)
        await driver.close()

    asyncio.run(main())
