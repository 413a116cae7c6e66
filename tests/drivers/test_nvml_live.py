"""GPUs of this very machine, through the library of their driver. Skipped, visibly, where there is none.

    make test-fast ARGS="tests/drivers/test_nvml_live.py -m live_gpu -rs -s"

What was seen goes into docs/reference/hardware-tried.md, driver and model included. The one write is a power
limit lowered by a few watts and put back; where this process may not write, it is checked that it says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from control_plane.core import limits
from control_plane.core.gpu import GpuSeen, NodeSeen, RecoveryAction, Trouble
from control_plane.core.gpu_cap import same_w
from control_plane.core.gpu_settings import GpuOutcome, SetGpuPowerLimit, WriteResult
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.nvml_host import HostNvml

_REFUSALS = {WriteResult.NOT_PERMITTED, WriteResult.UNSUPPORTED}

pytestmark = pytest.mark.live_gpu


@pytest.fixture(scope="module")
def library() -> Iterator[NvmlLibrary]:
    one = NvmlLibrary()
    trouble = one.look(0.0).trouble
    if trouble is not None:
        pytest.skip(f"no NVIDIA driver on this machine ({trouble.value})")
    yield one
    one.close()


@pytest.fixture(scope="module")
def seen(library: NvmlLibrary) -> NodeSeen:
    return library.look(1.0)


def test_a_machine_without_a_driver_has_a_name_for_it() -> None:
    """Runs everywhere: with a driver it is read, without one it is said which part is missing."""
    found = NvmlLibrary()
    trouble = found.look(0.0).trouble
    found.close()
    assert trouble in {None, Trouble.NO_LIBRARY, Trouble.NOT_LOADED, Trouble.MISMATCH}


def test_what_a_look_reads(seen: NodeSeen) -> None:
    print(f"\ndriver {seen.driver}")
    for gpu in seen.gpus:
        print(gpu)
    assert seen.driver
    assert seen.gpus
    for gpu in seen.gpus:
        assert gpu.uuid
        assert gpu.name
        assert gpu.pci
        assert not gpu.lost


def test_limits_are_in_watts_and_in_order(seen: NodeSeen) -> None:
    for gpu in seen.gpus:
        limits_w = (gpu.min_limit_w, gpu.settings.power_limit_w, gpu.max_limit_w)
        if None in limits_w:
            pytest.skip(f"{gpu.name} has no power limits")
        low_w, limit_w, high_w = (w for w in limits_w if w is not None)
        assert 10 <= low_w <= limit_w <= high_w <= 3_000


def test_a_second_look_goes_on_from_the_first(library: NvmlLibrary, seen: NodeSeen) -> None:
    again = library.look(2.0)
    assert [gpu.uuid for gpu in again.gpus] == [gpu.uuid for gpu in seen.gpus]
    for before, after in zip(seen.gpus, again.gpus, strict=True):
        if before.energy_j is not None and after.energy_j is not None:
            assert after.energy_j >= before.energy_j


def test_the_recovery_action_is_one_that_we_know_or_unread(seen: NodeSeen) -> None:
    for gpu in seen.gpus:
        print(f"\n{gpu.name}: field 230: {gpu.recovery}")
        assert gpu.recovery is None or gpu.recovery in set(RecoveryAction)


def test_memory_in_use_is_read_and_less_than_there_is(seen: NodeSeen) -> None:
    """With nobody on a GPU it has to be below `GPU_IDLE_MIB`: look at what is printed."""
    for gpu in seen.gpus:
        print(f"\n{gpu.name}: {gpu.memory_used_mib} MiB in use, {gpu.processes} processes seen")
        assert (gpu.memory_used_mib is None) == (gpu.settings.mig is True)
        assert 0 <= (gpu.memory_used_mib or 0) < 1_000_000
        if gpu.processes:
            assert (gpu.memory_used_mib or 0) >= limits.GPU_IDLE_MIB or gpu.settings.mig


def test_an_impossible_limit_is_refused_by_name(library: NvmlLibrary, seen: NodeSeen) -> None:
    gpu = seen.gpus[0]
    assert gpu.pci is not None
    outcome = library.apply(SetGpuPowerLimit(gpu=gpu.pci, watts=100_000))
    print(f"\n{gpu.name}: 100 kW: {outcome}")
    assert outcome.result in {WriteResult.OUT_OF_RANGE, *_REFUSALS}


def test_a_limit_is_lowered_read_back_and_put_back(library: NvmlLibrary, seen: NodeSeen) -> None:
    gpu = seen.gpus[0]
    before_w, low_w = gpu.settings.power_limit_w, gpu.min_limit_w
    if gpu.pci is None or before_w is None or low_w is None or before_w - 5 < low_w:
        pytest.skip(f"{gpu.name} has no power limit that can be lowered")
    outcome = library.apply(SetGpuPowerLimit(gpu=gpu.pci, watts=before_w - 5))
    print(f"\n{gpu.name}: {before_w:g} W less 5: {outcome}")
    if outcome.result in _REFUSALS:
        assert same_w(_limit_of(library), before_w)
        pytest.skip(f"this process may not write ({outcome.result.value})")
    try:
        assert outcome.result is WriteResult.APPLIED
        assert same_w(_limit_of(library), before_w - 5)
    finally:
        back = library.apply(SetGpuPowerLimit(gpu=gpu.pci, watts=before_w))
    assert back == GpuOutcome(
        result=WriteResult.APPLIED, requested_w=back.requested_w, enforced_w=back.enforced_w
    )
    assert same_w(_limit_of(library), before_w)


def test_a_gpu_that_is_not_there_takes_nothing(library: NvmlLibrary) -> None:
    outcome = library.apply(SetGpuPowerLimit(gpu="0000FFFF:FF:1F.7", watts=300))
    assert outcome.result is WriteResult.LOST


@pytest.mark.usefixtures("library")
def test_it_is_read_aside_of_the_loop() -> None:
    async def main() -> tuple[GpuSeen, ...]:
        nvml = HostNvml()
        found = await nvml.look(3.0)
        await nvml.close()
        return found.gpus

    assert asyncio.run(main())


def _limit_of(library: NvmlLibrary) -> float:
    limit_w = library.look(4.0).gpus[0].settings.power_limit_w
    assert limit_w is not None
    return limit_w
