"""The table of Xids: what it says of each, and of those that are not in it."""

from __future__ import annotations

import pytest

from control_plane.core.gpu import Rung
from control_plane.core.xid import FACTS, Weight, fact_of

# The buckets of immediate action in NVIDIA's catalogue, for Ampere to Blackwell.
RESETS = (46, 48, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158)
RESTARTS_APP = (
    8, 11, 13, 25, 31, 32, 39, 40, 41, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84, 85, 86, 88, 89, 94,
    *range(96, 106), *range(126, 136), 139,
)  # fmt: skip
COUNTED = (37, 38, 43, 44, 45, 63, 66, 67, 93, 121, 137, 141, 160, 161)
A_PERSON = (54, 78, 92, 142, 151, 157, 159, 163, 164, 165, 166, 167, 168, 169, 170)


@pytest.mark.parametrize("xid", RESETS)
def test_what_a_reset_helps_against_is_not_asked_about(xid: int) -> None:
    fact = fact_of(xid)
    assert (fact.weight, fact.rung, fact.asks) == (Weight.ACT, Rung.RESET_GPU, False)


def test_a_gpu_off_its_bus_calls_for_a_reboot() -> None:
    fact = fact_of(79)
    assert (fact.weight, fact.rung, fact.asks) == (Weight.ACT, Rung.REBOOT, False)


@pytest.mark.parametrize("xid", RESTARTS_APP + COUNTED)
def test_an_applications_error_alone_takes_no_node_from_anybody(xid: int) -> None:
    fact = fact_of(xid)
    assert fact.weight is Weight.COUNT
    assert fact.rung is Rung.OBSERVE


@pytest.mark.parametrize("xid", [74, *range(144, 151)])
def test_a_link_error_waits_for_who_decodes_it(xid: int) -> None:
    assert (fact_of(xid).rung, fact_of(xid).asks) == (Rung.RESET_GPU, True)


@pytest.mark.parametrize("xid", A_PERSON)
def test_what_the_catalogue_leaves_to_support_asks_a_person(xid: int) -> None:
    assert fact_of(xid).asks
    assert fact_of(xid).rung <= Rung.DRAIN


@pytest.mark.parametrize("xid", [14, 106, 107, 108, 154, 162, 171, 172])
def test_what_tells_of_another_one_is_nothing_itself(xid: int) -> None:
    assert fact_of(xid).weight is Weight.TELL


@pytest.mark.parametrize("xid", [0, 1, 47, 61, 90, 125, 138, 173, 10_000])
def test_an_unknown_one_asks_and_takes_nothing(xid: int) -> None:
    fact = fact_of(xid)
    assert xid not in FACTS
    assert (fact.xid, fact.weight, fact.rung, fact.asks) == (xid, Weight.ACT, Rung.OBSERVE, True)


def test_every_row_is_named_and_none_goes_above_a_reboot() -> None:
    for xid, fact in FACTS.items():
        assert fact.xid == xid
        assert fact.name
        assert fact.rung <= Rung.REBOOT


def test_copy_engines_and_decoders_are_numbered_as_the_driver_does() -> None:
    named = {xid: FACTS[xid].name for xid in (39, 41, 70, 72, 75, 77, 126, 135, 96, 98, 99, 105)}
    assert named == {
        39: "copy engine 0", 41: "copy engine 2", 70: "copy engine 3", 72: "copy engine 5",
        75: "copy engine 6", 77: "copy engine 8", 126: "copy engine 10", 135: "copy engine 19",
        96: "video decoder 5", 98: "video decoder 7", 99: "JPEG decoder 1", 105: "JPEG decoder 7",
    }  # fmt: skip
