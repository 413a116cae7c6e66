"""The GPUs of this host, through NVIDIA's library: the only module that knows `pynvml`.

What the library cannot do, does not know or refuses is a value, never an exception and never a default. The
library is opened once and kept open: Xids are told only to who registered before. So the process is a GPU
client, and `nvidia.com/gpu.deploy.client` ends it before the driver is unloaded
(docs/decisions/0024-node-agent.md).

Tried on: docs/reference/hardware-tried.md. API: NVML, docs.nvidia.com/deploy/nvml-api; nvidia-ml-py 13.615.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pynvml

from control_plane.core import limits
from control_plane.core.gpu import (
    GpuSeen,
    GpuSettings,
    NodeSeen,
    RecoveryAction,
    RowRemap,
    Trouble,
    XidEvent,
)
from control_plane.core.gpu_cap import same_w
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

T = TypeVar("T")
Handle = Any
"""Of a GPU, as `pynvml` has it."""

_TROUBLES: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: Trouble.NO_LIBRARY,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: Trouble.NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: Trouble.MISMATCH,
    pynvml.NVML_ERROR_UNINITIALIZED: Trouble.BROKEN,
}
"""Errors that end a session, and what they are; any other one of `nvmlInit` is `BROKEN`."""
_RESULTS: Final = {
    pynvml.NVML_ERROR_NO_PERMISSION: WriteResult.NOT_PERMITTED,
    pynvml.NVML_ERROR_INVALID_ARGUMENT: WriteResult.OUT_OF_RANGE,
    pynvml.NVML_ERROR_NOT_SUPPORTED: WriteResult.UNSUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: WriteResult.UNSUPPORTED,
    pynvml.NVML_ERROR_GPU_IS_LOST: WriteResult.LOST,
    pynvml.NVML_ERROR_IN_USE: WriteResult.IN_USE,
}
_RECOVERIES: Final = {
    0: RecoveryAction.NONE,
    1: RecoveryAction.RESET,
    2: RecoveryAction.REBOOT,
    3: RecoveryAction.DRAIN_P2P,
    4: RecoveryAction.DRAIN_AND_RESET,
}
"""Values above mean another thing in each driver branch (5 was three things between 580 and 610)."""
_RECOVERY_FIELD: Final = 230
_REASONS: Final = {
    0x04: "power_cap", 0x08: "hw_slowdown", 0x20: "sw_thermal", 0x40: "hw_thermal", 0x80: "power_brake",
}  # fmt: skip
_FABRIC: Final = {0: None, 1: "not_started", 2: "in_progress"}
_FABRIC_COMPLETED: Final = 3
_LOOKS_AT_A_LOST_GPU: Final = 12
"""After so many looks the library is opened anew."""
_MIB: Final = 1 << 20
_LINKS_MAX: Final = 18
"""NVLinks of a Hopper or Blackwell GPU; others have fewer."""


class _Lost(Exception):
    """This GPU is gone."""


class _Over(Exception):
    """The session is of no use any more."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        super().__init__(trouble.value)


class _Gpu:
    """One GPU of a session: its handle, and what of it never changes."""

    def __init__(self, index: int, handle: Handle | None, *, gone: bool = False) -> None:
        self.index, self.handle = index, handle
        self.lost = handle is None
        self.up: set[int] = set()
        """NVLinks that were up."""
        self.who = GpuSeen(index=index, refused=self.lost and not gone)


class NvmlLibrary:
    """The library, called where one stands: `nvml_host` makes the port of it."""

    def __init__(
        self, *, before: Callable[[], object] | None = None, sees_all: bool = False
    ) -> None:
        """Nothing is opened yet.

        Args:
            before: called before each use; for many hosts in one process, which simulations have.
            sees_all: whether the driver tells this process of everybody's (`nvml_host`).
        """
        self._before = before or (lambda: None)
        self._sees_all = sees_all
        self._gpus: list[_Gpu] | None = None
        self._driver: str | None = None
        self._events: Any = None
        self._looks = 0
        """Since some GPU was found lost."""

    def look(self, at_s: float) -> NodeSeen:
        """See `core.ports.Nvml`."""
        self._before()
        try:
            try:
                gpus = self._session()
                return self._look(gpus, at_s)
            except _Over:
                # The driver was loaded anew since: one try with a new session.
                self.close()
                return self._look(self._session(), at_s)
        except _Over as over:
            self.close()
            return NodeSeen(at_s=at_s, trouble=over.trouble)

    def apply(self, write: GpuWrite) -> GpuOutcome:
        """See `core.ports.Nvml`."""
        self._before()
        try:
            gpu = self._find(write.gpu)
            if gpu is None or gpu.lost:
                return GpuOutcome(result=WriteResult.LOST, detail=f"no GPU answers at {write.gpu}")
            return _write(gpu.handle, write)
        except pynvml.NVMLError as error:
            if error.value in _TROUBLES:
                self.close()
            return _refused(error.value)
        except _Lost:
            return GpuOutcome(result=WriteResult.LOST)
        except _Over as over:
            self.close()
            return GpuOutcome(result=WriteResult.UNREADABLE, detail=over.trouble.value)

    def reset(self, gpu: str) -> GpuOutcome:
        """NVML has no reset: `nvidia-smi --gpu-reset` on the host is its only way."""
        return GpuOutcome(
            result=WriteResult.UNSUPPORTED,
            detail=f"NVML cannot reset {gpu}; nvidia-smi on the host can",
        )

    def close(self) -> None:
        """See `core.ports.Nvml`."""
        self._before()
        if self._gpus is None:
            return
        self._gpus, self._looks = None, 0
        self._free_events()
        _tried(pynvml.nvmlShutdown)

    # -- the session --------------------------------------------------------------------------------

    def _session(self) -> list[_Gpu]:
        if self._gpus is not None:
            return self._gpus
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise _Over(_TROUBLES.get(error.value, Trouble.BROKEN)) from error
        self._gpus = []
        self._driver = _text(pynvml.nvmlSystemGetDriverVersion)
        count = _count()
        if count is None:
            raise _Over(Trouble.BROKEN)
        self._gpus = [_opened(index) for index in range(count)]
        self._register()
        return self._gpus

    def _find(self, pci: str) -> _Gpu | None:
        return next((gpu for gpu in self._session() if gpu.who.pci == pci), None)

    def _look(self, gpus: list[_Gpu], at_s: float) -> NodeSeen:
        # The counter of devices is the cheapest call that tells whether the session still lives.
        if _count() != len(gpus):
            raise _Over(Trouble.BROKEN)
        xids = tuple(self._xids(gpus, at_s))
        seen = tuple(_seen(gpu, sees_all=self._sees_all) for gpu in gpus)
        # A GPU that was reset from outside answers again, but only in another session.
        self._looks = self._looks + 1 if any(gpu.lost for gpu in seen) else 0
        if self._looks >= _LOOKS_AT_A_LOST_GPU:
            self.close()
        return NodeSeen(at_s=at_s, driver=self._driver, gpus=seen, xids=xids)

    # -- Xids ---------------------------------------------------------------------------------------

    def _register(self) -> None:
        self._events = _tried(pynvml.nvmlEventSetCreate)
        if self._events is None or self._gpus is None:
            return
        for gpu in self._gpus:
            if not gpu.lost:
                _tried(
                    pynvml.nvmlDeviceRegisterEvents,
                    gpu.handle, pynvml.nvmlEventTypeXidCriticalError, self._events,
                )  # fmt: skip

    def _xids(self, gpus: list[_Gpu], at_s: float) -> list[XidEvent]:
        if self._events is None:
            self._register()
        found: list[XidEvent] = []
        while self._events is not None and len(found) < limits.XIDS_PER_LOOK:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:
                if error.value not in {pynvml.NVML_ERROR_TIMEOUT, pynvml.NVML_ERROR_GPU_IS_LOST}:
                    # What is left of a set after another error is undefined: a new one at the next look.
                    self._free_events()
                break
            if event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                found.append(
                    XidEvent(at_s=at_s, xid=int(event.eventData), gpu=_whose(gpus, event.device))
                )
        return found

    def _free_events(self) -> None:
        if self._events is not None:
            _tried(pynvml.nvmlEventSetFree, self._events)
        self._events = None


# -- reading ------------------------------------------------------------------------------------------------


def _read(read: Callable[..., T], *args: object) -> T | None:
    """What a call says; `None` for whatever is not there to be read.

    Raises:
        _Lost: the GPU is gone.
        _Over: the session is.
    """
    try:
        return read(*args)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise _Lost from error
        trouble = _TROUBLES.get(error.value)
        if trouble is not None:
            raise _Over(trouble) from error
        return None
    except ValueError:  # a text that is none
        return None


def _count() -> int | None:
    """Of nobody in particular, so that nobody can be lost."""
    try:
        return _read(pynvml.nvmlDeviceGetCount)
    except _Lost:
        return None


def _tried(act: Callable[..., T], *args: object) -> T | None:
    """The same, where nothing follows from a failure."""
    try:
        return act(*args)
    except (pynvml.NVMLError, ValueError):
        return None


def _text(read: Callable[..., str | bytes], *args: object) -> str | None:
    value = _read(read, *args)
    if value is None:
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.strip() or None


def _opened(index: int) -> _Gpu:
    try:
        gpu = _Gpu(index, _read(pynvml.nvmlDeviceGetHandleByIndex, index))
        if gpu.handle is None:
            return gpu
        pci = _read(pynvml.nvmlDeviceGetPciInfo, gpu.handle)
        bounds = _read(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, gpu.handle)
        gpu.who = GpuSeen(
            index=index,
            uuid=_text(pynvml.nvmlDeviceGetUUID, gpu.handle),
            serial=_text(pynvml.nvmlDeviceGetSerial, gpu.handle),
            pci=None if pci is None else _bus(pci.busId),
            name=_text(pynvml.nvmlDeviceGetName, gpu.handle),
            default_limit_w=_watts(pynvml.nvmlDeviceGetPowerManagementDefaultLimit, gpu.handle),
            min_limit_w=None if bounds is None else bounds[0] / 1_000,
            max_limit_w=None if bounds is None else bounds[1] / 1_000,
        )
    except _Lost:
        return _Gpu(index, None, gone=True)
    return gpu


def _bus(value: str | bytes) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.strip().upper()


def _seen(gpu: _Gpu, *, sees_all: bool) -> GpuSeen:
    who, handle = gpu.who, gpu.handle
    if gpu.lost:
        return _lost(who)
    try:
        ecc = _read(pynvml.nvmlDeviceGetEccMode, handle)
        mig = _read(pynvml.nvmlDeviceGetMigMode, handle)
        persistence = _read(pynvml.nvmlDeviceGetPersistenceMode, handle)
        energy_mj = _read(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        return GpuSeen(
            index=gpu.index, uuid=who.uuid, serial=who.serial, pci=who.pci, name=who.name,
            default_limit_w=who.default_limit_w,
            min_limit_w=who.min_limit_w,
            max_limit_w=who.max_limit_w,
            settings=GpuSettings(
                power_limit_w=_watts(pynvml.nvmlDeviceGetPowerManagementLimit, handle),
                persistence=None if persistence is None else bool(persistence),
                ecc=None if ecc is None else bool(ecc[1]),
                mig=None if mig is None else bool(mig[0]),
            ),
            enforced_limit_w=_watts(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
            power_w=_watts(pynvml.nvmlDeviceGetPowerUsage, handle),
            energy_j=None if energy_mj is None else energy_mj / 1_000,
            temperature_c=_read(
                pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
            ),
            graphics_clock_mhz=_read(
                pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_GRAPHICS
            ),
            throttled_by=_reasons(handle),
            ecc_uncorrected=_read(
                pynvml.nvmlDeviceGetTotalEccErrors, handle,
                pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC,
            ),
            ecc_in_force=None if ecc is None else bool(ecc[0]),
            remap=_remap(handle),
            links_down=_links_down(gpu),
            fabric=_fabric(handle),
            recovery=_recovery(handle),
            processes=_processes(handle, sees_all=sees_all),
            memory_used_mib=None if mig is not None and mig[0] else _memory_used_mib(handle),
        )  # fmt: skip
    except _Lost:
        gpu.lost = True
        return _lost(who)


def _lost(who: GpuSeen) -> GpuSeen:
    """Nothing but who it was."""
    return GpuSeen(
        index=who.index, uuid=who.uuid, serial=who.serial, pci=who.pci, name=who.name, lost=True,
        refused=who.refused,
    )  # fmt: skip


def _watts(read: Callable[..., int], handle: Handle) -> float | None:
    milliwatts = _read(read, handle)
    return None if milliwatts is None else milliwatts / 1_000


def _reasons(handle: Handle) -> frozenset[str] | None:
    bits = _read(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:  # its name before driver 535
        bits = _read(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    if bits is None:
        return None
    return frozenset(name for bit, name in _REASONS.items() if bits & bit)


def _remap(handle: Handle) -> RowRemap | None:
    rows = _read(pynvml.nvmlDeviceGetRemappedRows, handle)
    if rows is None:
        return None
    corrected, uncorrected, pending, failed = rows
    return RowRemap(
        corrected=corrected, uncorrected=uncorrected, pending=bool(pending), failed=bool(failed)
    )


def _links_down(gpu: _Gpu) -> tuple[int, ...] | None:
    """Links that were up before and are not; with any link up, all that the GPU has should be.

    Nothing tells whether a card without any link up has no bridge, or a dead switch: `fabric` does.
    """
    states = {
        link: state
        for link in range(_LINKS_MAX)
        if (state := _read(pynvml.nvmlDeviceGetNvLinkState, gpu.handle, link)) is not None
    }
    if not states:
        return None
    gpu.up |= {link for link, state in states.items() if state}
    return tuple(sorted(link for link, state in states.items() if not state and gpu.up))


def _fabric(handle: Handle) -> str | None:
    info = pynvml.c_nvmlGpuFabricInfoV_t()
    info.version = pynvml.nvmlGpuFabricInfo_v2
    if _read(pynvml.nvmlDeviceGetGpuFabricInfoV, handle, ctypes.byref(info)) is None:
        return None
    if info.state != _FABRIC_COMPLETED:
        return _FABRIC.get(info.state, f"state_{info.state}")
    if info.status != pynvml.NVML_SUCCESS:
        return f"failed_{info.status}"
    # Two bits: 0 not supported, 1 yes, 2 no.
    return "degraded" if info.healthMask & 3 == 1 else "completed"


def _recovery(handle: Handle) -> RecoveryAction | None:
    values = _read(pynvml.nvmlDeviceGetFieldValues, handle, [_RECOVERY_FIELD])
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    return _RECOVERIES.get(values[0].value.uiVal, RecoveryAction.UNKNOWN)


def _processes(handle: Handle, *, sees_all: bool) -> int | None:
    """Some are a fact whoever asks; none only where nobody is left out."""
    found = _read(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
    if found is None:
        return None
    return len(found) if found or sees_all else None


def _memory_used_mib(handle: Handle) -> int | None:
    """What is neither free nor reserved by the driver.

    Not `used` itself: whether it holds `reserved`, NVIDIA's manual says both ways (docs/decisions/0024), and
    this is the same either way. Never of version 1, which has no `reserved`: there an
    idle GPU seems to hold hundreds of MiB.
    """
    memory = _read(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    if memory is None:
        return None
    used = memory.total - memory.reserved - memory.free
    # Numbers that cannot be are none: not a GPU without memory, nor one with more than it has.
    return math.ceil(used / _MIB) if used >= 0 < memory.total else None


def _whose(gpus: list[_Gpu], device: Handle) -> str | None:
    address = _address(device)
    handles = ((gpu.handle, gpu.who.pci) for gpu in gpus if gpu.handle is not None)
    return next((pci for handle, pci in handles if _address(handle) == address), None)


def _address(handle: Handle) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


# -- writing ------------------------------------------------------------------------------------------------


def _write(handle: Handle, write: GpuWrite) -> GpuOutcome:
    """Raises `NVMLError` where the library refuses the write itself."""
    match write:
        case SetGpuPowerLimit(watts=watts):
            # Down, so that the edge never asks for more than was allowed.
            pynvml.nvmlDeviceSetPowerManagementLimit(handle, math.floor(watts * 1_000))
            return _limit_outcome(handle, watts)
        case LockGpuClock(clock=clock):
            pynvml.nvmlDeviceSetGpuLockedClocks(handle, clock.min_mhz, clock.max_mhz)
        case LockMemoryClock(clock=clock):
            pynvml.nvmlDeviceSetMemoryLockedClocks(handle, clock.min_mhz, clock.max_mhz)
        case SetPersistence(on=on):
            pynvml.nvmlDeviceSetPersistenceMode(handle, int(on))
            return _read_back(on, _read(pynvml.nvmlDeviceGetPersistenceMode, handle))
        case SetEcc(on=on):
            pynvml.nvmlDeviceSetEccMode(handle, int(on))
            modes = _read(pynvml.nvmlDeviceGetEccMode, handle)
            if modes is not None and bool(modes[1]) == on != bool(modes[0]):
                return GpuOutcome(result=WriteResult.PENDING_REBOOT)
            return _read_back(on, None if modes is None else modes[1])
    return GpuOutcome(result=WriteResult.APPLIED, detail="acknowledged; it cannot be read back")


def _limit_outcome(handle: Handle, watts: float) -> GpuOutcome:
    requested_w = _watts(pynvml.nvmlDeviceGetPowerManagementLimit, handle)
    enforced_w = _watts(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    if requested_w is None or not same_w(requested_w, watts):
        detail = "not readable" if requested_w is None else f"{requested_w:.0f} W, not {watts:.0f}"
        return GpuOutcome(
            result=WriteResult.NOT_TAKEN, requested_w=requested_w, enforced_w=enforced_w,
            detail=f"reads back as {detail}",
        )  # fmt: skip
    return GpuOutcome(result=WriteResult.APPLIED, requested_w=requested_w, enforced_w=enforced_w)


def _read_back(wanted: bool, seen: int | None) -> GpuOutcome:  # noqa: FBT001 - what was asked for
    if seen is not None and bool(seen) == wanted:
        return GpuOutcome(result=WriteResult.APPLIED)
    return GpuOutcome(result=WriteResult.NOT_TAKEN, detail=f"reads back as {seen}")


def _refused(code: int) -> GpuOutcome:
    if code in _TROUBLES:
        return GpuOutcome(result=WriteResult.UNREADABLE, detail=_TROUBLES[code].value)
    result = _RESULTS.get(code, WriteResult.FAILED)
    return GpuOutcome(result=result, detail=f"NVML error {code}")
