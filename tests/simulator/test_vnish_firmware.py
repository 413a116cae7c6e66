"""A simulated VNish takes images: what it checks, what it keeps, and what a cut of its power does."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.images import Conduct, SimImage, make_image
from control_plane.simulator.vnish import Vnish
from tests.simulator.making import a_world
from tests.simulator.vnishes import Api, a_vnish

GOOD = SimImage(family="vnish", models=("antminer s19",), version="1.3.9", control_board="aml")
WRITTEN_S = 300.0


def post(api: Api, data: bytes, *, keep: str = "") -> tuple[int, bytes]:
    """Upload it as a browser does."""
    parts = [b'--b\r\nContent-Disposition: form-data; name="file"; filename="fw"\r\n\r\n' + data]
    if keep:
        head = b'--b\r\nContent-Disposition: form-data; name="keep_settings"\r\n\r\n'
        parts.append(head + keep.encode())
    body = b"\r\n".join([*parts, b"--b--\r\n"])
    api.headers["Content-Type"] = "multipart/form-data; boundary=b"
    return api.send("POST", "/api/v1/firmware/update", body)


def a_unit() -> tuple[Vnish, ManualSimClock]:
    world, clock = a_world()
    return a_vnish(world), clock


def test_a_good_image_is_booted_into_and_settings_stay() -> None:
    device, clock = a_unit()
    assert post(Api(device), make_image(GOOD)) == (200, b'{"after":3}')
    assert device.accept(80, "127.0.0.9") is None
    clock.advance(WRITTEN_S)
    api = Api(device)
    assert api.get("info")["fw_version"] == "1.3.9"
    assert api.get("settings")["miner"]["overclock"]["preset"] == "2950"
    clock.advance(700)
    assert device.machine.sample().hashrate_ths == pytest.approx(99, rel=0.02)


def test_a_build_that_is_known_behaves_as_it_does() -> None:
    device, clock = a_unit()
    post(Api(device), make_image(msgspec.structs.replace(GOOD, version="1.2.6")))
    clock.advance(WRITTEN_S)
    assert Api(device).send("POST", "/api/v1/mining/stop") == (200, b"")


def test_settings_go_where_they_are_not_to_be_kept() -> None:
    device, clock = a_unit()
    post(Api(device), make_image(GOOD), keep="false")
    clock.advance(WRITTEN_S)
    told = Api(device).get("settings")["miner"]
    assert (told["overclock"]["preset"], told["pools"][0]["url"]) == ("disabled", "")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (make_image(GOOD)[:-1], "corrupted"),
        (b"", "corrupted"),
        (make_image(msgspec.structs.replace(GOOD, models=("Antminer S21",))), "another model"),
        (make_image(msgspec.structs.replace(GOOD, control_board="xil")), "another model"),
        (make_image(msgspec.structs.replace(GOOD, family="antminer_stock")), "another model"),
    ],
)
def test_what_is_not_for_it_is_refused_and_it_mines_on(data: bytes, why: str) -> None:
    device, _ = a_unit()
    api = Api(device)
    status, text = post(api, data)
    assert (status, why in text.decode()) == (500, True)
    assert (api.state, device.unit.flash.written) == ("mining", 0)
    assert [write.honoured for write in device.machine.world.ledger] == [False]


def test_without_a_token_nothing_is_taken() -> None:
    device, _ = a_unit()
    assert post(Api(device, unlock=False), make_image(GOOD))[0] == 401
    assert device.unit.flash.written == 0


def test_power_that_goes_away_in_the_middle_is_the_end_of_it() -> None:
    device, clock = a_unit()
    post(Api(device), make_image(GOOD))
    clock.advance(30)
    device.machine.power_off()
    device.machine.power_on()
    clock.advance(1_000)
    assert device.accept(80, "127.0.0.9") is None
    assert device.machine.cut_while_flashing


@pytest.mark.parametrize(
    ("conduct", "ths"), [(Conduct.IDLE, 0.0), (Conduct.WEAK, 66.3), (Conduct.GOOD, 99.0)]
)
def test_a_new_version_may_hash_or_not(conduct: Conduct, ths: float) -> None:
    device, clock = a_unit()
    post(Api(device), make_image(msgspec.structs.replace(GOOD, conduct=conduct)))
    clock.advance(WRITTEN_S)
    api = Api(device)
    clock.advance(1_000)
    assert api.get("info")["fw_version"] == "1.3.9"
    assert device.machine.sample().hashrate_ths == pytest.approx(ths, rel=0.02)


def test_an_image_may_be_the_last_thing_that_it_runs() -> None:
    device, clock = a_unit()
    post(Api(device), make_image(msgspec.structs.replace(GOOD, conduct=Conduct.BRICKS)))
    clock.advance(1_000)
    assert device.accept(80, "127.0.0.9") is None


def test_there_is_no_stock_firmware_to_go_back_to() -> None:
    device, _ = a_unit()
    status, told = Api(device).post("firmware/remove", {"remove_stock_logs": False})
    assert (status, told["err"]) == (400, "This model has no 'remove firmware'")
