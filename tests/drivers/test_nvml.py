"""The real `pynvml` over a fake library: every answer that NVML has, and what becomes of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from control_plane.core import limits
from control_plane.core.gpu import (
    ClockRange,
    GpuSeen,
    GpuSettings,
    NodeSeen,
    RecoveryAction,
    RowRemap,
    Trouble,
    XidEvent,
)
from control_plane.core.gpu_settings import (
    GpuOutcome,
    GpuWrite,
    LockGpuClock,
    LockMemoryClock,
    SetEcc,
    SetGpuPowerLimit,
    SetPersistence,
    WriteResult,
)
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.nvml_host import HostNvml, sees_all_processes
from control_plane.simulator.gpus import CONTEXT_MIB, MODELS, RESERVED_MIB, Busy, GpuHost
from control_plane.simulator.nvml import FakeLibrary, install


class Bench:
    """A host, its library, and what reads it."""

    def __init__(self, model: str = "h100", gpus: int = 8) -> None:
        self.now_s = 100.0
        self.host = GpuHost(model, gpus=gpus, now_s=lambda: self.now_s)
        self.fake = FakeLibrary(self.host)
        self.library = NvmlLibrary(sees_all=True)
        install(self.fake)

    def look(self) -> NodeSeen:
        self.now_s += 5
        return self.library.look(self.now_s)

    def gpu(self, index: int = 0) -> GpuSeen:
        return self.look().gpus[index]

    def apply(self, write: GpuWrite) -> GpuOutcome:
        return self.library.apply(write)


@pytest.fixture
def bench() -> Iterator[Bench]:
    yield Bench()
    install(None)


PCI = "00000000:0F:00.0"
MIB = 1 << 20


def test_a_look_has_everything_in_our_units(bench: Bench) -> None:
    bench.look()
    seen = bench.look()
    assert (seen.driver, seen.trouble, seen.at_s, len(seen.gpus)) == ("595.91.07", None, 110.0, 8)
    assert seen.gpus[0] == GpuSeen(
        index=0,
        uuid="GPU-00000000-6772-6964-706c-000000000000",
        serial="1654000000000",
        pci=PCI,
        name="NVIDIA H100 80GB HBM3",
        settings=GpuSettings(power_limit_w=700.0, persistence=False, ecc=True, mig=False),
        enforced_limit_w=700.0,
        default_limit_w=700.0,
        min_limit_w=200.0,
        max_limit_w=700.0,
        power_w=75.0,
        energy_j=750.0 + 7_500.0,
        temperature_c=34,
        graphics_clock_mhz=1_980,
        throttled_by=frozenset(),
        ecc_uncorrected=0,
        ecc_in_force=True,
        remap=RowRemap(corrected=0, uncorrected=0, pending=False, failed=False),
        links_down=(),
        fabric="completed",
        recovery=RecoveryAction.NONE,
        processes=0,
        memory_used_mib=1,
    )


@pytest.mark.parametrize("model", list(MODELS))
def test_each_model_is_read(model: str) -> None:
    bench = Bench(model)
    try:
        kind, gpu = MODELS[model], bench.gpu(7)
        assert (gpu.name, gpu.default_limit_w, gpu.min_limit_w, gpu.max_limit_w) == (
            kind.name, kind.default_w, kind.min_w, kind.max_w,
        )  # fmt: skip
    finally:
        install(None)


# -- a node that cannot be read ------------------------------------------------------------------------------


def no_library(host: GpuHost) -> None:
    host.has_library = False


def not_loaded(host: GpuHost) -> None:
    host.loaded = False


def mismatch(host: GpuHost) -> None:
    host.mismatch = True


def broken(code: int) -> Callable[[GpuHost], None]:
    def act(host: GpuHost) -> None:
        host.broken = code

    return act


@pytest.mark.parametrize(
    ("act", "trouble"),
    [
        (no_library, Trouble.NO_LIBRARY),
        (not_loaded, Trouble.NOT_LOADED),
        (mismatch, Trouble.MISMATCH),
        (broken(pynvml.NVML_ERROR_UNKNOWN), Trouble.BROKEN),
        (broken(pynvml.NVML_ERROR_NO_PERMISSION), Trouble.BROKEN),
        (broken(pynvml.NVML_ERROR_IRQ_ISSUE), Trouble.BROKEN),
    ],
)
def test_what_keeps_a_node_from_being_read_has_a_name(
    bench: Bench, act: Callable[[GpuHost], None], trouble: Trouble
) -> None:
    act(bench.host)
    seen = bench.look()
    assert seen == NodeSeen(at_s=105.0, trouble=trouble)
    refused = bench.apply(SetGpuPowerLimit(gpu=PCI, watts=500))
    assert (refused.result, bench.host.writes) == (WriteResult.UNREADABLE, [])


def test_without_any_library_there_is_no_exception_either(monkeypatch: pytest.MonkeyPatch) -> None:
    install(None)

    def absent(*_: object, **__: object) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(pynvml, "CDLL", absent)
    assert NvmlLibrary().look(5.0) == NodeSeen(at_s=5.0, trouble=Trouble.NO_LIBRARY)


@pytest.mark.parametrize(
    "act",
    [mismatch, broken(pynvml.NVML_ERROR_UNKNOWN), broken(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)],
)
def test_a_library_that_breaks_in_the_middle_is_named_and_comes_back(
    bench: Bench, act: Callable[[GpuHost], None]
) -> None:
    assert bench.look().trouble is None
    bench.host.life += 1
    act(bench.host)
    assert bench.look().trouble is not None
    bench.host.broken, bench.host.mismatch = None, False
    assert len(bench.look().gpus) == 8


def test_every_function_may_be_missing(bench: Bench) -> None:
    """An old driver: whatever it lacks is unknown, and the rest is read."""
    whole = bench.gpu()
    from control_plane.simulator.nvml import _FUNCTIONS

    for name in [name for name in _FUNCTIONS if name.startswith("nvmlDeviceGet")]:
        if name in {"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"}:
            continue
        again = Bench()
        again.host.missing = {name}
        gpu = again.gpu()
        assert not gpu.lost, name
        # Asked by its old name too, or, of memory, never: see below.
        other = ("Reasons", "Temperature", "TemperatureV", "MemoryInfo")
        assert gpu != whole or name.endswith(other), name


@pytest.mark.parametrize("code", range(1, 30))
def test_every_error_of_a_read_is_a_value(bench: Bench, code: int) -> None:
    bench.look()
    bench.host.broken = code
    seen = bench.look()
    assert seen.trouble is not None
    assert seen.gpus == ()


def test_old_names_are_asked_where_new_ones_are_missing(bench: Bench) -> None:
    bench.host.missing = {"nvmlDeviceGetCurrentClocksEventReasons"}
    bench.host.gpus[0].reasons = 0x80
    assert bench.gpu().throttled_by == frozenset({"power_brake"})


# -- GPUs -----------------------------------------------------------------------------------------------


def test_a_gpu_off_its_bus_keeps_its_name_and_nothing_else(bench: Bench) -> None:
    bench.look()
    bench.host.fall_off(3)
    seen = bench.look()
    assert seen.xids == (XidEvent(at_s=110.0, xid=79, gpu="00000000:3F:00.0"),)
    assert [gpu.lost for gpu in seen.gpus] == [False] * 3 + [True] + [False] * 4
    lost = seen.gpus[3]
    assert (lost.pci, lost.settings, lost.enforced_limit_w) == (
        "00000000:3F:00.0",
        GpuSettings(),
        None,
    )
    assert (
        bench.apply(SetGpuPowerLimit(gpu="00000000:3F:00.0", watts=300)).result is WriteResult.LOST
    )


def test_a_gpu_that_was_lost_before_is_lost_at_the_first_look(bench: Bench) -> None:
    bench.host.fall_off(3)
    seen = bench.look()
    assert seen.gpus[3] == GpuSeen(index=3, lost=True)


def test_a_gpu_that_is_only_kept_from_us_is_told_from_one_that_is_gone(bench: Bench) -> None:
    bench.host.refuses = {3}
    bench.host.fall_off(4)
    refused, gone = bench.look().gpus[3:5]
    assert refused == GpuSeen(index=3, lost=True, refused=True)
    assert gone == GpuSeen(index=4, lost=True)
    assert bench.look().gpus[3].refused, "at each look"


def test_a_gpu_that_was_reset_from_outside_is_found_again(bench: Bench) -> None:
    bench.look()
    bench.host.fall_off(3)
    assert bench.gpu(3).lost
    bench.host.gpus[3].reset()
    assert not [bench.gpu(3) for _ in range(13)][-1].lost


def test_a_dead_gpu_is_missing_after_the_reboot(bench: Bench) -> None:
    bench.look()
    bench.host.fall_off(3, dead=True)
    bench.host.reboot()
    seen = bench.look()
    assert (seen.trouble, len(seen.gpus)) == (None, 7)
    bench.host.power_cycle()
    assert len(bench.look().gpus) == 8


@pytest.mark.parametrize(
    ("value", "action"),
    [
        (0, RecoveryAction.NONE),
        (1, RecoveryAction.RESET),
        (2, RecoveryAction.REBOOT),
        (3, RecoveryAction.DRAIN_P2P),
        (4, RecoveryAction.DRAIN_AND_RESET),
        *((n, RecoveryAction.UNKNOWN) for n in (5, 6, 7, 8, 255, 4_294_967_295)),
    ],
)
def test_what_the_driver_asks_for(bench: Bench, value: int, action: RecoveryAction) -> None:
    bench.host.gpus[0].recovery = value
    assert bench.gpu().recovery is action


def test_a_partitioned_gpu_does_not_tell_of_its_rows(bench: Bench) -> None:
    bench.host.gpus[0].mig = True
    gpu = bench.gpu()
    assert (gpu.settings.mig, gpu.remap) == (True, None)
    assert bench.apply(SetGpuPowerLimit(gpu=PCI, watts=500)).result is WriteResult.APPLIED


def test_rows_and_errors_of_memory(bench: Bench) -> None:
    bench.host.uncorrectable(0)
    gpu = bench.gpu()
    assert gpu.ecc_uncorrected == 1
    assert gpu.remap == RowRemap(corrected=0, uncorrected=1, pending=True, failed=False)


def test_links(bench: Bench) -> None:
    assert bench.gpu().links_down == ()
    bench.host.gpus[0].links_down = {2, 11}
    assert bench.gpu().links_down == (2, 11)
    # A card without a bridge has none up, and none down.
    bench.host.gpus[1].links_down = set(range(18))
    assert Bench.gpu(bench, 1).links_down == tuple(range(18))
    bench.library.close()
    assert bench.gpu(1).links_down == ()


@pytest.mark.parametrize(
    ("state", "status", "degraded", "want"),
    [
        (0, 0, False, None),
        (1, 0, False, "not_started"),
        (2, 0, False, "in_progress"),
        (3, 0, False, "completed"),
        (3, 0, True, "degraded"),
        (3, 999, False, "failed_999"),
        (9, 0, False, "state_9"),
    ],
)
def test_the_fabric(
    bench: Bench, state: int, status: int, degraded: bool, want: str | None
) -> None:
    gpu = bench.host.gpus[0]
    gpu.fabric, gpu.fabric_status, gpu.fabric_degraded = state, status, degraded
    assert bench.gpu().fabric == want


def test_reasons_for_lower_clocks(bench: Bench) -> None:
    gpu = bench.host.gpus[0]
    gpu.reasons, gpu.demand_w, gpu.limit_w = 1 | 2 | 8 | 16 | 32 | 64 | 128 | 256, 700, 500
    assert bench.gpu().throttled_by == frozenset({
        "power_cap", "hw_slowdown", "sw_thermal", "hw_thermal", "power_brake",
    })  # fmt: skip


# -- processes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [0, 1, 8, 400])
def test_processes_on_a_gpu_are_counted(bench: Bench, running: int) -> None:
    bench.host.gpus[2].processes = running
    assert [gpu.processes for gpu in bench.look().gpus] == [0, 0, running] + [0] * 5


def test_none_is_no_fact_where_those_of_others_are_left_out(bench: Bench) -> None:
    bench.library = NvmlLibrary()
    bench.host.gpus[0].processes = 2
    assert [gpu.processes for gpu in bench.look().gpus[:2]] == [2, None]
    bench.host.shows_others = False
    assert bench.gpu().processes is None


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_INSUFFICIENT_SIZE,
        pynvml.NVML_ERROR_UNKNOWN,
    ],
)
def test_a_gpu_that_does_not_tell_of_processes_is_read_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_: object) -> list[object]:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses_v3", refuse)
    gpu = bench.gpu()
    assert (gpu.processes, gpu.lost, gpu.fabric) == (None, False, "completed")


@pytest.mark.parametrize("counts_reserved", [False, True])
def test_memory_in_use_is_everybodys_and_without_what_the_driver_reserves(
    bench: Bench, *, counts_reserved: bool
) -> None:
    bench.library = NvmlLibrary()
    bench.host.shows_others, bench.host.counts_reserved = False, counts_reserved
    bench.host.gpus[2].processes = 2
    bench.host.gpus[5].memory_left_mib = 4_000
    seen = bench.look().gpus
    assert [gpu.processes for gpu in seen] == [None] * 8
    used_mib = [gpu.memory_used_mib for gpu in seen]
    assert used_mib == [1, 1, 1 + 2 * CONTEXT_MIB, 1, 1, 4_000, 1, 1]


def test_what_an_old_driver_calls_memory_in_use_is_not_taken_for_it(bench: Bench) -> None:
    old = pynvml.nvmlDeviceGetMemoryInfo
    bench.look()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert old(handle).used == (1 + RESERVED_MIB) << 20, "it holds what is reserved"
    bench.host.missing = {"nvmlDeviceGetMemoryInfo_v2"}
    gpu = bench.gpu()
    assert (gpu.memory_used_mib, gpu.lost, gpu.processes) == (None, False, 0)


def test_memory_of_a_whole_gpu_is_not_read_while_it_is_partitioned(bench: Bench) -> None:
    bench.host.gpus[0].mig = True
    assert [gpu.memory_used_mib for gpu in bench.look().gpus[:2]] == [None, 1]


@pytest.mark.parametrize(
    ("total", "reserved", "free", "want_mib"),
    [
        (100 * MIB, 10 * MIB, 90 * MIB, 0),
        (100 * MIB, 10 * MIB, 90 * MIB - 1, 1),
        (100 * MIB, 10 * MIB, 74 * MIB, 16),
        (100 * MIB, 10 * MIB, 0, 90),
        (100 * MIB, 10 * MIB, 91 * MIB, None),
        (0, 0, 0, None),
    ],
)
def test_memory_is_rounded_up_and_what_cannot_be_is_unknown(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    total: int,
    reserved: int,
    free: int,
    want_mib: int | None,
) -> None:
    def told(_: object, version: int) -> object:
        assert version == pynvml.nvmlMemory_v2
        return pynvml.c_nvmlMemory_v2_t(total=total, reserved=reserved, free=free)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", told)
    assert bench.gpu().memory_used_mib == want_mib


def test_nobody_computes_on_a_gpu_that_is_gone_or_was_reset(bench: Bench) -> None:
    bench.look()
    bench.host.gpus[0].processes = bench.host.gpus[3].processes = 4
    bench.host.fall_off(3)
    assert [gpu.processes for gpu in bench.look().gpus[:4]] == [4, 0, 0, None]
    bench.host.gpus[0].reset()
    assert bench.gpu().processes == 0


def test_a_driver_is_not_unloaded_under_a_process(bench: Bench) -> None:
    bench.host.gpus[0].processes = 1
    with pytest.raises(Busy):
        bench.host.unload()


def test_only_the_hosts_own_pid_namespace_sees_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found:
        st_ino = 0xEFFF_FFFC

    namespace = tmp_path / "pid"
    assert not sees_all_processes(namespace), "no /proc: unknown"
    namespace.touch()
    assert not sees_all_processes(namespace), "another inode: another namespace"
    monkeypatch.setattr(Path, "stat", lambda _: Found)
    assert sees_all_processes(namespace)


# -- Xids -----------------------------------------------------------------------------------------------


def test_xids_are_told_once_and_only_from_the_first_look_on(bench: Bench) -> None:
    bench.host.xid(0, 13)
    assert bench.look().xids == ()
    bench.host.xid(7, 48)
    bench.host.xid(0, 63)
    assert [(e.xid, e.gpu) for e in bench.look().xids] == [(48, "00000000:7F:00.0"), (63, PCI)]
    assert bench.look().xids == ()


def test_a_storm_of_xids_ends_a_look_and_goes_on_in_the_next(bench: Bench) -> None:
    bench.look()
    for _ in range(limits.XIDS_PER_LOOK + 10):
        bench.host.xid(1, 13)
    assert [len(bench.look().xids) for _ in range(3)] == [limits.XIDS_PER_LOOK, 10, 0]


def test_without_events_the_rest_is_read(bench: Bench) -> None:
    bench.host.missing = {"nvmlEventSetCreate", "nvmlEventSetWait_v2"}
    bench.host.xid(0, 79)
    seen = bench.look()
    assert (seen.xids, len(seen.gpus), seen.trouble) == ((), 8, None)


# -- writes ---------------------------------------------------------------------------------------------

CLOCK = ClockRange(min_mhz=345, max_mhz=1_410)


@pytest.mark.parametrize(
    ("write", "result", "written"),
    [
        (
            SetGpuPowerLimit(gpu=PCI, watts=450.5),
            GpuOutcome(result=WriteResult.APPLIED, requested_w=450.5, enforced_w=450.5),
            (0, "PowerManagementLimit", 450.5),
        ),
        (
            LockGpuClock(gpu=PCI, clock=CLOCK),
            GpuOutcome(result=WriteResult.APPLIED, detail="acknowledged; it cannot be read back"),
            (0, "GpuLockedClocks", (345, 1_410)),
        ),
        (
            LockMemoryClock(gpu=PCI, clock=CLOCK),
            GpuOutcome(result=WriteResult.APPLIED, detail="acknowledged; it cannot be read back"),
            (0, "MemoryLockedClocks", (345, 1_410)),
        ),
        (
            SetPersistence(gpu=PCI, on=True),
            GpuOutcome(result=WriteResult.APPLIED),
            (0, "PersistenceMode", True),
        ),
        (
            SetEcc(gpu=PCI, on=False),
            GpuOutcome(result=WriteResult.PENDING_REBOOT),
            (0, "EccMode", False),
        ),
        (SetEcc(gpu=PCI, on=True), GpuOutcome(result=WriteResult.APPLIED), (0, "EccMode", True)),
    ],
)
def test_each_write_is_read_back(
    bench: Bench, write: GpuWrite, result: GpuOutcome, written: tuple[int, str, object]
) -> None:
    assert bench.apply(write) == result
    assert bench.host.writes == [written]


ALL: list[GpuWrite] = [
    SetGpuPowerLimit(gpu=PCI, watts=450),
    LockGpuClock(gpu=PCI, clock=CLOCK),
    LockMemoryClock(gpu=PCI, clock=CLOCK),
    SetPersistence(gpu=PCI, on=True),
    SetEcc(gpu=PCI, on=False),
]
SETTERS = {
    SetGpuPowerLimit: "nvmlDeviceSetPowerManagementLimit",
    LockGpuClock: "nvmlDeviceSetGpuLockedClocks",
    LockMemoryClock: "nvmlDeviceSetMemoryLockedClocks",
    SetPersistence: "nvmlDeviceSetPersistenceMode",
    SetEcc: "nvmlDeviceSetEccMode",
}


@pytest.mark.parametrize("write", ALL)
def test_who_may_not_write_is_told_so(bench: Bench, write: GpuWrite) -> None:
    bench.host.permitted = False
    assert bench.apply(write).result is WriteResult.NOT_PERMITTED
    assert bench.host.writes == []


@pytest.mark.parametrize("write", ALL)
def test_what_an_old_driver_cannot_set_is_unsupported(bench: Bench, write: GpuWrite) -> None:
    bench.host.missing = {SETTERS[type(write)]}
    assert bench.apply(write).result is WriteResult.UNSUPPORTED


@pytest.mark.parametrize("write", ALL)
def test_a_gpu_that_is_not_there_takes_nothing(bench: Bench, write: GpuWrite) -> None:
    import msgspec

    elsewhere = msgspec.structs.replace(write, gpu="00000000:FF:00.0")
    assert bench.apply(elsewhere).result is WriteResult.LOST


@pytest.mark.parametrize("watts", [199.9, 700.1, 0, 10_000])
def test_a_limit_outside_of_the_range_is_refused(bench: Bench, watts: float) -> None:
    outcome = bench.apply(SetGpuPowerLimit(gpu=PCI, watts=watts))
    assert outcome.result is WriteResult.OUT_OF_RANGE
    assert bench.gpu().settings.power_limit_w == 700


def test_a_lower_limit_through_the_bmc_is_seen_as_enforced(bench: Bench) -> None:
    bench.host.gpus[0].outside_w = 400
    outcome = bench.apply(SetGpuPowerLimit(gpu=PCI, watts=600))
    assert (outcome.result, outcome.requested_w, outcome.enforced_w) == (
        WriteResult.APPLIED,
        600,
        400,
    )


def test_a_write_that_did_not_take_is_told_apart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceSetPowerManagementLimit", lambda *_: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceSetPersistenceMode", lambda *_: None)
    outcome = bench.apply(SetGpuPowerLimit(gpu=PCI, watts=600))
    assert (outcome.result, outcome.requested_w) == (WriteResult.NOT_TAKEN, 700)
    assert bench.apply(SetPersistence(gpu=PCI, on=True)).result is WriteResult.NOT_TAKEN


def test_a_reset_is_the_hosts(bench: Bench) -> None:
    assert bench.library.reset(PCI).result is WriteResult.UNSUPPORTED


# -- the life of a driver -------------------------------------------------------------------------------


def test_limits_are_lost_with_the_driver(bench: Bench) -> None:
    bench.apply(SetGpuPowerLimit(gpu=PCI, watts=450))
    bench.apply(SetEcc(gpu=PCI, on=False))
    before = bench.gpu()
    assert (before.settings.power_limit_w, before.settings.ecc, before.ecc_in_force) == (
        450,
        False,
        True,
    )
    bench.host.reboot()
    after = bench.gpu()
    assert (after.settings.power_limit_w, after.settings.ecc, after.ecc_in_force) == (
        700,
        False,
        False,
    )
    assert after.energy_j is not None
    assert before.energy_j is not None
    assert after.energy_j < before.energy_j


def test_a_driver_is_unloaded_only_once_we_let_it_go(bench: Bench) -> None:
    bench.look()
    with pytest.raises(Busy):
        bench.host.unload()
    bench.library.close()
    bench.host.unload()
    assert bench.look().trouble is Trouble.NOT_LOADED
    bench.host.load("610.57.04")
    assert bench.look().driver == "610.57.04"


def test_closing_twice_is_closing_once(bench: Bench) -> None:
    bench.look()
    bench.library.close()
    bench.library.close()
    assert bench.host.clients == 0


def test_many_hosts_in_one_process() -> None:
    fake = FakeLibrary()
    install(fake)
    hosts = [GpuHost("b200", number=n) for n in range(64)]
    try:
        readers = [NvmlLibrary(before=lambda host=host: fake.turn_to(host)) for host in hosts]  # type: ignore[misc]
        for n, reader in enumerate(readers):
            reader.look(0.0)
            reader.apply(SetGpuPowerLimit(gpu=PCI, watts=500 + n))
        seen = [reader.look(5.0) for reader in readers]
    finally:
        install(None)
    assert [one.gpus[0].settings.power_limit_w for one in seen] == [500 + n for n in range(64)]
    assert len({gpu.serial for one in seen for gpu in one.gpus}) == 64 * 8


# -- aside of the loop ----------------------------------------------------------------------------------


def test_a_library_that_hangs_is_a_value_and_holds_nobody_up(bench: Bench) -> None:
    let_go = threading.Event()
    calls: list[int] = []

    def hang() -> None:
        calls.append(1)
        if len(calls) == 2:
            let_go.wait(10)

    async def main() -> list[Any]:
        nvml = HostNvml(NvmlLibrary(before=hang), deadline_s=0.1)
        found: list[Any] = [(await nvml.look(1.0)).trouble, (await nvml.look(2.0)).trouble]
        found.append((await nvml.apply(SetGpuPowerLimit(gpu=PCI, watts=450))).result)
        await nvml.close()
        let_go.set()
        async with asyncio.timeout(10):
            while (await nvml.look(3.0)).trouble is Trouble.HUNG:  # noqa: ASYNC110 - a thread's
                await asyncio.sleep(0.01)
        found.append((await nvml.look(4.0)).trouble)
        await nvml.close()
        return found

    assert asyncio.run(main()) == [None, Trouble.HUNG, WriteResult.UNREADABLE, None]
    assert bench.host.writes == []
