"""What a look shows of a change, what counts as a raise, and which credentials nobody may use."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.bmc import (
    BmcChange,
    BmcSeen,
    BootOnce,
    BootOverride,
    BootTarget,
    EjectMedia,
    Firmware,
    InsertMedia,
    Locate,
    Media,
    Power,
    PowerCap,
    PowerCycle,
    PowerOff,
    PowerOn,
    Restart,
    SetBios,
    SetPowerCap,
    UpdateFirmware,
    has_version,
    is_pending,
    is_raise,
    is_same_board,
    shows,
    takes_host_down,
)
from control_plane.core.bmc_quirks import QUIRKS, Maker, is_factory_login, maker_of
from control_plane.core.secret import Secret

BARE = BmcSeen(maker=Maker.OTHER)
ISO = "http://images.test/iso/installer.iso"


def seen(**fields: object) -> BmcSeen:
    return msgspec.structs.replace(BARE, **fields)


SHOWN: list[tuple[BmcChange, BmcSeen, bool | None]] = [
    (PowerOn(), BARE, None),
    (PowerOn(), seen(power=Power.ON), True),
    (PowerOn(), seen(power=Power.POWERING_ON), False),
    (PowerOff(), seen(power=Power.OFF), True),
    (PowerOff(forced=True), seen(power=Power.PAUSED), False),
    (PowerCycle(), seen(power=Power.ON), None),
    (Restart(), seen(power=Power.ON), None),
    (UpdateFirmware(image_uri=ISO), seen(firmware=()), None),
    (BootOnce(target=BootTarget.PXE), BARE, None),
    (
        BootOnce(target=BootTarget.PXE),
        seen(boot=BootOverride(target=BootTarget.PXE, once=True)),
        True,
    ),
    (
        BootOnce(target=BootTarget.PXE),
        seen(boot=BootOverride(target=BootTarget.PXE, once=False)),
        False,
    ),
    (SetBios(attributes={"A": 1}), BARE, None),
    (SetBios(attributes={"A": 1}), seen(bios={"A": 1, "B": 2}), True),
    (SetBios(attributes={"A": 1}), seen(bios={"B": 2}), False),
    (SetPowerCap(watts=500), BARE, None),
    (SetPowerCap(watts=500), seen(cap=PowerCap(watts=500.0)), True),
    (SetPowerCap(watts=None), seen(cap=PowerCap(watts=500.0)), False),
    (SetPowerCap(watts=None), seen(cap=PowerCap(watts=None)), True),
    (InsertMedia(image_uri=ISO), seen(media=Media(inserted=None)), None),
    (InsertMedia(image_uri=ISO), seen(media=Media(inserted=True, image=ISO)), True),
    (InsertMedia(image_uri=ISO), seen(media=Media(inserted=True, image="installer.iso")), True),
    (InsertMedia(image_uri=ISO), seen(media=Media(inserted=True, image="other.iso")), False),
    (InsertMedia(image_uri=ISO), seen(media=Media(inserted=False)), False),
    (EjectMedia(), seen(media=Media(inserted=False)), True),
    (EjectMedia(), BARE, None),
    (Locate(lit=True), seen(locate=True), True),
    (Locate(lit=True), BARE, None),
]


@pytest.mark.parametrize(("change", "look", "shown"), SHOWN)
def test_a_look_shows_a_change_or_not_or_cannot_tell(
    change: BmcChange, look: BmcSeen, shown: bool | None
) -> None:
    assert shows(look, change) is shown


def test_pending_is_told_from_done_and_from_forgotten() -> None:
    wanted = SetBios(attributes={"A": 1, "B": 2})
    assert is_pending(seen(bios={"A": 0, "B": 2}, bios_pending={"A": 1}), wanted) is True
    assert is_pending(seen(bios={"A": 1, "B": 2}, bios_pending={}), wanted) is False
    assert is_pending(seen(bios={"A": 0, "B": 2}, bios_pending={}), wanted) is False
    assert is_pending(seen(bios={"A": 0}), wanted) is None


RAISES: list[tuple[BmcChange, BmcSeen | None, bool]] = [
    (PowerOn(), seen(power=Power.OFF), True),
    (PowerCycle(), seen(power=Power.ON), False),
    (PowerCycle(), seen(power=Power.OFF), True),
    (PowerCycle(), None, True),
    (SetPowerCap(watts=None), seen(cap=PowerCap(watts=500.0)), True),
    (SetPowerCap(watts=600), seen(cap=PowerCap(watts=500.0)), True),
    (SetPowerCap(watts=400), seen(cap=PowerCap(watts=500.0)), False),
    (SetPowerCap(watts=400), BARE, True),
    (PowerOff(), None, False),
    (Restart(forced=True), None, False),
]


@pytest.mark.parametrize(("change", "look", "raises"), RAISES)
def test_what_is_not_known_to_lower_counts_as_a_raise(
    change: BmcChange, look: BmcSeen | None, raises: bool
) -> None:
    assert is_raise(change, look) is raises


def test_what_ends_what_runs_on_the_host() -> None:
    down: tuple[BmcChange, ...] = (PowerOff(), PowerOff(forced=True), PowerCycle(), Restart())
    up: tuple[BmcChange, ...] = (PowerOn(), Locate(lit=True), SetPowerCap(watts=1))
    assert [takes_host_down(change) for change in (*down, *up)] == [True] * 4 + [False] * 3


def test_a_version_is_there_or_not_or_unknown() -> None:
    look = seen(
        firmware=(
            Firmware(id="BIOS", name="BIOS", version="2"),
            Firmware(id="X", name="X", version=None),
        )
    )
    assert has_version(look, "BIOS", "2") is True
    assert has_version(look, "BIOS", "3") is False
    assert has_version(look, "X", "3") is None
    assert has_version(look, "Y", "3") is None
    assert has_version(BARE, "BIOS", "2") is None


@pytest.mark.parametrize(
    ("user", "password", "ships"),
    [
        ("ADMIN", "ADMIN", True),
        ("root", "calvin", True),
        ("Root", "calvin", True),
        ("root", "Calvin", False),
        ("USERID", "PASSW0RD", True),
        ("gridplane", "calvin", False),
    ],
)
def test_what_makers_ship_is_nobodys_secret(user: str, password: str, ships: bool) -> None:
    assert is_factory_login(user, Secret(password)) is ships


def test_every_maker_has_its_quirks_and_is_known_by_name() -> None:
    assert set(QUIRKS) == set(Maker)
    for maker in Maker:
        if maker is not Maker.OTHER:
            assert maker_of(None, maker.value.upper()) is maker


BOARD = "4c4c4544-0031-3010-8052-b7c04f583232"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (BOARD, True),
        (BOARD.upper().replace("-", ""), True),
        ("44454c4c-3100-1030-8052-b7c04f583232", True),  # the first three fields turned
        ("44454c4c-3100-1030-5280-b7c04f583232", False),
        ("", False),
        ("not a uuid", False),
    ],
)
def test_a_board_is_known_in_either_order_of_bytes(other: str, same: bool) -> None:
    assert is_same_board(BOARD, other) is same
    assert is_same_board(other, BOARD) is same


@pytest.mark.parametrize("nobody", ["0" * 32, "f" * 32])
def test_boards_without_a_name_of_their_own_are_not_the_same(nobody: str) -> None:
    assert not is_same_board(nobody, nobody)
