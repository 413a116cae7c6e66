"""Registers to watts, and what is believed: maps, marks for "not there", age, and what cannot be so."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.findings import SourceRef
from control_plane.core.meter import (
    Freshness,
    Meter,
    Quality,
    Reading,
    Watch,
    WrongMap,
    decode,
    freshness,
    judge,
    reading_of,
)
from control_plane.core.meter_maps import MAPS, Block, Kind, Point, Quantity, RegisterMap, blocks

METER = Meter(
    name="m-1", node="pad-1", address="10.0.0.1", model="janitza-umg96", range_w=1_000_000.0,
    where=SourceRef(path="power.yaml"),
)  # fmt: skip


def words(at: int, layout: str, *values: float) -> dict[int, int]:
    data = struct.pack(f">{layout}", *values)
    return dict(enumerate(struct.unpack(f">{len(data) // 2}H", data), at))


def known(*points: Point, low_first: bool = False) -> RegisterMap:
    return RegisterMap(
        name="x", title="x", function=3, points=points, is_low_word_first=low_first, source="x"
    )


POWER = Quantity.POWER_W


@pytest.mark.parametrize(
    ("kind", "layout", "raw", "told"),
    [
        (Kind.INT16, "h", -7, -7.0),
        (Kind.INT16, "h", -0x8000, None),
        (Kind.UINT16, "H", 65_534, 65_534.0),
        (Kind.UINT16, "H", 0xFFFF, None),
        (Kind.INT32, "i", -2_000_000, -2_000_000.0),
        (Kind.INT32, "i", -0x8000_0000, None),
        (Kind.UINT32, "I", 4_000_000_000, 4_000_000_000.0),
        (Kind.UINT32, "I", 0xFFFF_FFFF, None),
        (Kind.INT64, "q", 10**15, 1e15),
        (Kind.INT64, "q", -0x8000_0000_0000_0000, None),
        (Kind.ACC32, "I", 3, 3.0),
        (Kind.ACC32, "I", 0, None),
        (Kind.FLOAT32, "f", 1.5, 1.5),
        (Kind.FLOAT32, "f", float("nan"), None),
        (Kind.FLOAT32, "f", float("-inf"), None),
    ],
)
def test_each_kind_and_its_mark_for_not_there(
    kind: Kind, layout: str, raw: float, told: float | None
) -> None:
    assert decode(known(Point(POWER, 10, kind)), words(10, layout, raw)) == {POWER: told}


def test_the_order_of_words_and_an_offset() -> None:
    turned = known(Point(POWER, 10, Kind.FLOAT32, 1000.0), low_first=True)
    high, low = words(0, "f", 12.5).values()
    assert decode(turned, {15: low, 16: high}, offset=5) == {POWER: 12_500.0}


@pytest.mark.parametrize(
    ("exponent", "told"), [(2, 1200.0), (-1, 1.2), (-0x8000, None), (11, None)]
)
def test_scale_factors(exponent: int, told: float | None) -> None:
    point = Point(POWER, 10, Kind.INT16, 1.0, 20)
    found = decode(known(point), words(10, "h", 12) | words(20, "h", exponent))
    assert found[POWER] == (None if told is None else pytest.approx(told))


def test_a_map_that_holds_something_else_is_refused() -> None:
    one = MAPS["sunspec-203"]
    block = dict.fromkeys(range(40_070, 40_130), 0)
    with pytest.raises(WrongMap, match="holds 0, and 203"):
        decode(one, block)


@pytest.mark.parametrize("name", MAPS)
def test_each_map_is_whole_and_read_in_few_requests(name: str) -> None:
    one = MAPS[name]
    assert {point.quantity for point in one.points} == set(Quantity)
    assert one.name == name
    assert one.source
    read = blocks(one)
    assert len(read) <= 2
    covered = {at for block in read for at in range(block.start, block.start + block.count)}
    assert all(block.count <= min(one.most, 125) for block in read)
    for point in one.points:
        assert set(range(point.address, point.address + point.kind.size)) <= covered


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("sunspec-203", (Block(40_070, 55),)),
        ("schneider-pm5000", (Block(3009, 68), Block(3203, 8))),
        ("eastron-sdm630", (Block(42, 34),)),
    ],
)
def test_what_is_asked_of_a_meter(name: str, read: tuple[Block, ...]) -> None:
    assert blocks(MAPS[name]) == read


def block_of(power: float) -> dict[int, int]:
    found = dict.fromkeys(range(19_006, 19_078), 0)
    return found | words(19_026, "f", power) | words(19_068, "f", 5000.0) | words(19_076, "f", 7.0)


@pytest.mark.parametrize(
    ("power", "how", "quality", "told_w"),
    [
        (500_000.0, {}, Quality.GOOD, 500_000.0),
        (-4_000.0, {}, Quality.GOOD, -4_000.0),
        (-200_000.0, {}, Quality.NEGATIVE, -200_000.0),
        (-200_000.0, {"is_two_way": True}, Quality.GOOD, -200_000.0),
        (-200_000.0, {"is_reversed": True}, Quality.GOOD, 200_000.0),
        (5_000.0, {"scale": 100.0}, Quality.GOOD, 500_000.0),
        (1_000_001.0, {}, Quality.OUT_OF_RANGE, 1_000_001.0),
        (float("nan"), {}, Quality.MISSING, None),
    ],
)
def test_a_reading_by_itself(
    power: float, how: dict[str, object], quality: Quality, told_w: float | None
) -> None:
    meter = msgspec.structs.replace(METER, **how)
    reading = reading_of(meter, block_of(power), 10.0)
    assert (reading.quality, reading.at_s, reading.power_w) == (quality, 10.0, told_w)
    assert reading.trusted_w == (told_w if quality is Quality.GOOD else None)
    energies = (5000.0 * meter.scale, 7.0 * meter.scale)
    assert (reading.import_wh, reading.export_wh) == (
        energies[::-1] if meter.is_reversed else energies
    )


def told(at_s: float, power_w: float, wh: float | None = None) -> Reading:
    return Reading(meter="m-1", at_s=at_s, power_w=power_w, import_wh=at_s if wh is None else wh)


def judged(*readings: Reading) -> list[Quality]:
    watch: Watch | None = None
    found = []
    for one in readings:
        watch, reading = judge(METER, watch, one)
        found.append(reading.quality)
    return found


def test_the_same_numbers_for_five_intervals_are_stuck_until_one_moves() -> None:
    same = [told(float(at), 5e5, 1.0) for at in range(8)]
    found = judged(*same, told(8.0, 5e5, 2.0), told(9.0, 5e5, 2.0))
    assert found == [Quality.GOOD] * 5 + [Quality.STUCK] * 3 + [Quality.GOOD] * 2


def test_the_same_watts_with_a_counter_that_moves_are_not_stuck_nor_is_nothing() -> None:
    assert set(judged(*(told(float(at), 5e5) for at in range(20)))) == {Quality.GOOD}
    assert set(judged(*(told(float(at), 0.0, 1.0) for at in range(20)))) == {Quality.GOOD}


def test_a_jump_up_is_confirmed_by_the_next_and_one_down_believed_at_once() -> None:
    found = judged(told(0, 1e5), told(1, 9e5), told(2, 9.1e5), told(3, 0.0), told(60, 9e5))
    assert found == [Quality.GOOD, Quality.JUMP, Quality.GOOD, Quality.GOOD, Quality.GOOD]


@pytest.mark.parametrize(
    ("age_s", "wanted"),
    [
        (0.0, Freshness.FRESH),
        (limits.METER_STALE_INTERVALS * 1.0, Freshness.FRESH),
        (limits.METER_STALE_INTERVALS * 1.0 + 0.1, Freshness.STALE),
        (-0.9, Freshness.FRESH),
        (-1.1, Freshness.AHEAD),
    ],
)
def test_the_age_of_a_reading(age_s: float, wanted: Freshness) -> None:
    assert freshness(METER, told(100.0, 1.0), 100.0 + age_s) is wanted
    assert freshness(METER, None, 100.0) is Freshness.NEVER


@given(st.dictionaries(st.sampled_from(list(MAPS)), st.binary(min_size=250, max_size=250)))
def test_no_registers_break_it(given_words: dict[str, bytes]) -> None:
    for name, noise in given_words.items():
        one = MAPS[name]
        found: dict[int, int] = {}
        for block in blocks(one):
            found |= dict(enumerate(struct.unpack(">125H", noise)[: block.count], block.start))
        found |= dict(one.expects)
        reading = reading_of(msgspec.structs.replace(METER, model=name), found, 0.0)
        values = msgspec.structs.asdict(reading)
        numbers = [value for value in values.values() if isinstance(value, float)]
        assert all(abs(value) < float("inf") for value in numbers)
