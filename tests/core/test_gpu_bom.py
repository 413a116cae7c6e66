"""What a node is made of, held against the declaration: every difference, and what nobody could read."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.gpu_bom import Difference, Expected, Found, Part, compare

H100 = "NVIDIA H100 80GB HBM3"
MACS = frozenset({"02:00:00:00:00:01", "02:00:00:00:00:02"})
WANT = Expected(serial="S1", gpus=8, gpu_model=H100, memory_gib=2_048, nics=MACS)
RIGHT = Found(serial="S1", gpu_models=(H100,) * 8, memory_gib=2_015.3, nics=MACS)


def test_the_declared_node_differs_in_nothing() -> None:
    assert compare(expected=WANT, found=RIGHT) == ()


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"serial": "S2"}, (Part.SERIAL, "S1", "S2")),
        ({"serial": None}, (Part.SERIAL, "S1", None)),
        ({"gpu_models": (H100,) * 7}, (Part.GPUS, "8", "7")),
        ({"gpu_models": None}, (Part.GPUS, "8", None)),
        ({"gpu_models": ()}, (Part.GPUS, "8", "0")),
        ({"gpu_models": (H100,) * 7 + ("NVIDIA H200",)}, (Part.GPU_MODEL, H100, "NVIDIA H200")),
        ({"gpu_models": (H100,) * 7 + (None,)}, (Part.GPU_MODEL, H100, "unknown")),
        ({"memory_gib": 1_888.0}, (Part.MEMORY, "2048", "1888.0")),
        ({"memory_gib": 4_031.0}, (Part.MEMORY, "2048", "4031.0")),
        ({"memory_gib": None}, (Part.MEMORY, "2048", None)),
        ({"nics": frozenset({"02:00:00:00:00:01"})},
         (Part.NICS, ", ".join(sorted(MACS)), "02:00:00:00:00:01")),
        ({"nics": frozenset()}, (Part.NICS, ", ".join(sorted(MACS)), "none")),
        ({"nics": None}, (Part.NICS, ", ".join(sorted(MACS)), None)),
    ],
)  # fmt: skip
def test_each_part_is_compared(
    changes: dict[str, object], difference: tuple[Part, str, str | None]
) -> None:
    part, expected, found = difference
    got = compare(expected=WANT, found=msgspec.structs.replace(RIGHT, **changes))
    assert got == (Difference(part=part, expected=expected, found=found),)


def test_a_node_of_which_nothing_is_known_is_not_the_right_one() -> None:
    got = compare(expected=WANT, found=Found())
    assert [one.part for one in got] == [Part.SERIAL, Part.GPUS, Part.MEMORY, Part.NICS]
    assert str(got[0]) == "serial could not be read, declared is S1"


def test_what_is_not_declared_is_not_compared() -> None:
    assert compare(expected=Expected(gpus=8), found=Found(gpu_models=(None,) * 8)) == ()
