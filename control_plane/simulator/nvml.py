"""A fake NVIDIA library to stand behind `pynvml`: NVML's own functions, arguments and error codes.

`pynvml` finds each function by name and hands over ctypes values; these are filled in as the real library
does. One library serves many hosts, one at a time: `turn_to` says which one the calls are about.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import pynvml

from control_plane.simulator.gpus import CONTEXT_MIB, RESERVED_MIB, Gpu, GpuHost, Refusal

_FIRST_HANDLE: Final = 0x6770_0000
_FIRST_PID: Final = 4_000
_RECOVERY_FIELD: Final = 230
_MIB: Final = 1 << 20
Act = Callable[..., int | None]

_FUNCTIONS: Final[dict[str, Act]] = {}


class FakeLibrary:
    """What `pynvml.nvmlLib` is set to."""

    def __init__(self, host: GpuHost | None = None) -> None:
        self.host = host
        self.calls = 0
        self.lives: dict[int, int] = {}
        """Host → in which life of its driver the session was opened."""
        self.sets: dict[int, tuple[GpuHost, set[int]]] = {}
        """Event set → its host, and the GPUs that it was registered for."""
        self.next_set = 1

    def turn_to(self, host: GpuHost) -> None:
        """Let all calls that follow be about this host."""
        self.host = host

    def __getattr__(self, name: str) -> _Function:
        if name not in _FUNCTIONS or (self.host is not None and name in self.host.missing):
            raise AttributeError(name)
        return _Function(self, name)

    def call(self, name: str, args: tuple[Any, ...]) -> int:
        """The error code that the library returns."""
        self.calls += 1
        host = self.host
        if host is None or name in host.missing:
            return int(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        if host.broken is not None:
            return host.broken
        if name not in {"nvmlInitWithFlags", "nvmlInit_v2"}:
            life = self.lives.get(id(host))
            if life is None or life != host.life or not host.loaded:
                return int(pynvml.NVML_ERROR_UNINITIALIZED)
        host.pass_time()
        try:
            return _FUNCTIONS[name](self, host, *args) or int(pynvml.NVML_SUCCESS)
        except Refusal as refusal:
            return refusal.code


class _Function:
    """One function of the library, as ctypes has them: its attributes may be set."""

    def __init__(self, library: FakeLibrary, name: str) -> None:
        self.restype: object = None
        self._library, self._name = library, name

    def __call__(self, *args: Any) -> int:
        return self._library.call(self._name, args)


def install(library: FakeLibrary | None) -> None:
    """Put a library behind `pynvml`, or take it away."""
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - kept from the library before


def _function(*names: str) -> Callable[[Act], Act]:
    def named(act: Act) -> Act:
        for name in names:
            _FUNCTIONS[name] = act
        return act

    return named


def _of_gpu(*names: str) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """A function of one GPU: a handle comes first, and a GPU that is lost answers nothing."""

    def named(act: Callable[..., int | None]) -> Act:
        def on_gpu(_: FakeLibrary, host: GpuHost, handle: Any, *args: Any) -> int | None:
            return act(_gpu(host, handle), *args)

        return _function(*names)(on_gpu)

    return named


def _setter(*names: str) -> Callable[[Callable[..., object]], Act]:
    """A function that changes a GPU: root only, and written down."""

    def named(act: Callable[..., object]) -> Act:
        def on_gpu(_: FakeLibrary, host: GpuHost, handle: Any, *args: Any) -> int | None:
            gpu = _gpu(host, handle)
            if not host.permitted:
                raise Refusal(pynvml.NVML_ERROR_NO_PERMISSION)
            to = act(gpu, *(_int(arg) for arg in args))
            host.writes.append((gpu.index, names[0].removeprefix("nvmlDeviceSet"), to))
            return None

        return _function(*names)(on_gpu)

    return named


# -- library and devices --------------------------------------------------------------------------------


@_function("nvmlInitWithFlags", "nvmlInit_v2")
def _init(library: FakeLibrary, host: GpuHost, *_flags: object) -> None:
    if not host.has_library:
        raise Refusal(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    if not host.loaded:
        raise Refusal(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    if host.mismatch:
        raise Refusal(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    library.lives[id(host)] = host.life
    host.clients += 1


@_function("nvmlShutdown")
def _shutdown(library: FakeLibrary, host: GpuHost) -> None:
    library.lives.pop(id(host), None)
    host.clients = max(host.clients - 1, 0)


@_function("nvmlSystemGetDriverVersion")
def _driver_version(_: FakeLibrary, host: GpuHost, out: Any, _length: object) -> None:
    out.value = host.driver.encode()


@_function("nvmlDeviceGetCount_v2")
def _count(_: FakeLibrary, host: GpuHost, out: Any) -> None:
    # A GPU that did not come back with the driver is not counted; one that got lost since still is.
    _at(out).value = len(_present(host))


@_function("nvmlDeviceGetHandleByIndex_v2")
def _handle(_: FakeLibrary, host: GpuHost, index: Any, out: Any) -> None:
    present = _present(host)
    if _int(index) >= len(present):
        raise Refusal(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    gpu = present[_int(index)]
    if gpu.index in host.refuses:
        raise Refusal(pynvml.NVML_ERROR_NO_PERMISSION)
    if gpu.lost:
        raise Refusal(pynvml.NVML_ERROR_GPU_IS_LOST)
    ctypes.c_void_p.from_buffer(_at(out)).value = _FIRST_HANDLE + gpu.index


@_of_gpu("nvmlDeviceGetUUID")
def _uuid(gpu: Gpu, out: Any, _length: object) -> None:
    out.value = gpu.uuid.encode()


@_of_gpu("nvmlDeviceGetSerial")
def _serial(gpu: Gpu, out: Any, _length: object) -> None:
    out.value = gpu.serial.encode()


@_of_gpu("nvmlDeviceGetName")
def _name(gpu: Gpu, out: Any, _length: object) -> None:
    out.value = gpu.model.name.encode()


@_of_gpu("nvmlDeviceGetPciInfo_v3")
def _pci(gpu: Gpu, out: Any) -> None:
    _at(out).busId = gpu.pci.encode()


# -- power, clocks, temperature ---------------------------------------------------------------------------


def _milliwatts(watts: float) -> int:
    return round(watts * 1_000)


@_of_gpu("nvmlDeviceGetPowerManagementLimit")
def _limit(gpu: Gpu, out: Any) -> None:
    _at(out).value = _milliwatts(gpu.limit_w)


@_of_gpu("nvmlDeviceGetEnforcedPowerLimit")
def _enforced(gpu: Gpu, out: Any) -> None:
    _at(out).value = _milliwatts(gpu.enforced_w)


@_of_gpu("nvmlDeviceGetPowerManagementDefaultLimit")
def _default_limit(gpu: Gpu, out: Any) -> None:
    _at(out).value = _milliwatts(gpu.model.default_w)


@_of_gpu("nvmlDeviceGetPowerManagementLimitConstraints")
def _constraints(gpu: Gpu, low: Any, high: Any) -> None:
    _at(low).value, _at(high).value = _milliwatts(gpu.model.min_w), _milliwatts(gpu.model.max_w)


@_of_gpu("nvmlDeviceGetPowerUsage")
def _usage(gpu: Gpu, out: Any) -> None:
    _at(out).value = _milliwatts(gpu.power_w)


@_of_gpu("nvmlDeviceGetTotalEnergyConsumption")
def _energy(gpu: Gpu, out: Any) -> None:
    _at(out).value = round(gpu.energy_j * 1_000)


@_setter("nvmlDeviceSetPowerManagementLimit")
def _set_limit(gpu: Gpu, milliwatts: int) -> float:
    if not _milliwatts(gpu.model.min_w) <= milliwatts <= _milliwatts(gpu.model.max_w):
        raise Refusal(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    gpu.limit_w = milliwatts / 1_000
    return gpu.limit_w


@_of_gpu("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV")
def _temperature(gpu: Gpu, *args: Any) -> None:
    if len(args) == 1:  # one struct in newer libraries
        _at(args[0]).temperature = gpu.temperature_c
    else:
        _at(args[1]).value = gpu.temperature_c


@_of_gpu("nvmlDeviceGetClockInfo")
def _clock(gpu: Gpu, _kind: object, out: Any) -> None:
    high = gpu.model.max_clock_mhz
    _at(out).value = min(high, gpu.graphics[1]) if gpu.graphics is not None else high


@_of_gpu("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
def _clock_reasons(gpu: Gpu, out: Any) -> None:
    capped = 4 if gpu.demand_w > gpu.enforced_w else 0
    _at(out).value = gpu.reasons | capped


@_setter("nvmlDeviceSetGpuLockedClocks")
def _lock_graphics(gpu: Gpu, low_mhz: int, high_mhz: int) -> tuple[int, int]:
    if not 0 < low_mhz <= high_mhz:
        raise Refusal(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    gpu.graphics = (low_mhz, high_mhz)
    return gpu.graphics


@_setter("nvmlDeviceSetMemoryLockedClocks")
def _lock_memory(gpu: Gpu, low_mhz: int, high_mhz: int) -> tuple[int, int]:
    if not 0 < low_mhz <= high_mhz:
        raise Refusal(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    gpu.memory = (low_mhz, high_mhz)
    return gpu.memory


# -- memory, modes ------------------------------------------------------------------------------------------


@_of_gpu("nvmlDeviceGetEccMode")
def _ecc(gpu: Gpu, current: Any, pending: Any) -> None:
    _at(current).value, _at(pending).value = int(gpu.ecc), int(gpu.ecc_pending)


@_setter("nvmlDeviceSetEccMode")
def _set_ecc(gpu: Gpu, on: int) -> bool:
    gpu.ecc_pending = bool(on)
    return gpu.ecc_pending


@_of_gpu("nvmlDeviceGetTotalEccErrors")
def _ecc_errors(gpu: Gpu, kind: Any, _counter: object, out: Any) -> None:
    if not gpu.ecc:
        raise Refusal(pynvml.NVML_ERROR_NOT_SUPPORTED)
    _at(out).value = (
        gpu.ecc_uncorrected if _int(kind) == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED else 0
    )


@_of_gpu("nvmlDeviceGetRemappedRows")
def _remapped(gpu: Gpu, corrected: Any, uncorrected: Any, pending: Any, failed: Any) -> None:
    if gpu.mig:
        raise Refusal(pynvml.NVML_ERROR_NOT_SUPPORTED)
    _at(corrected).value, _at(uncorrected).value = gpu.remap_correctable, gpu.remap_uncorrectable
    _at(pending).value, _at(failed).value = int(gpu.remap_pending), int(gpu.remap_failed)


@_of_gpu("nvmlDeviceGetMigMode")
def _mig(gpu: Gpu, current: Any, pending: Any) -> None:
    _at(current).value = _at(pending).value = int(gpu.mig)


@_of_gpu("nvmlDeviceGetPersistenceMode")
def _persistence(gpu: Gpu, out: Any) -> None:
    _at(out).value = int(gpu.persistence)


@_setter("nvmlDeviceSetPersistenceMode")
def _set_persistence(gpu: Gpu, on: int) -> bool:
    gpu.persistence = bool(on)
    return gpu.persistence


# -- links, fabric, fields ----------------------------------------------------------------------------------


@_of_gpu("nvmlDeviceGetNvLinkState")
def _link(gpu: Gpu, link: Any, out: Any) -> None:
    if _int(link) >= gpu.model.links:
        raise Refusal(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    _at(out).value = int(_int(link) not in gpu.links_down)


@_of_gpu("nvmlDeviceGetGpuFabricInfoV")
def _fabric(gpu: Gpu, out: Any) -> None:
    info = _at(out)
    info.state, info.status = gpu.fabric, gpu.fabric_status
    info.healthMask = 1 if gpu.fabric_degraded else 2


@_of_gpu("nvmlDeviceGetFieldValues")
def _fields(gpu: Gpu, count: Any, values: Any) -> None:
    for value in _at(values)[: _int(count)]:
        if value.fieldId == _RECOVERY_FIELD:
            value.nvmlReturn = pynvml.NVML_SUCCESS
            value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
            value.value.uiVal = gpu.recovery
        else:
            value.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED


@_function("nvmlDeviceGetComputeRunningProcesses_v3")
def _running(_: FakeLibrary, host: GpuHost, handle: Any, count: Any, infos: Any) -> None:
    gpu = _gpu(host, handle)
    running = gpu.processes if host.shows_others else 0
    room, _at(count).value = _at(count).value, running
    if running > room:
        raise Refusal(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    for number in range(running):
        infos[number].pid = _FIRST_PID + number
        infos[number].usedGpuMemory = CONTEXT_MIB * _MIB


@_function("nvmlDeviceGetMemoryInfo")
def _memory_v1(_: FakeLibrary, host: GpuHost, handle: Any, out: Any) -> None:
    gpu, info = _gpu(host, handle), _at(out)
    info.total = gpu.model.memory_mib * _MIB
    info.used = (gpu.memory_used_mib + RESERVED_MIB) * _MIB
    info.free = info.total - info.used


@_function("nvmlDeviceGetMemoryInfo_v2")
def _memory_v2(_: FakeLibrary, host: GpuHost, handle: Any, out: Any) -> None:
    gpu, info = _gpu(host, handle), _at(out)
    if info.version != pynvml.nvmlMemory_v2:
        raise Refusal(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
    info.total, info.reserved = gpu.model.memory_mib * _MIB, RESERVED_MIB * _MIB
    info.free = info.total - info.reserved - gpu.memory_used_mib * _MIB
    info.used = info.total - info.free - (0 if host.counts_reserved else info.reserved)


# -- events -------------------------------------------------------------------------------------------------


@_function("nvmlEventSetCreate")
def _create_set(library: FakeLibrary, host: GpuHost, out: Any) -> None:
    number, library.next_set = library.next_set, library.next_set + 1
    library.sets[number] = (host, set())
    # What happened before nobody is told.
    host.xids.clear()
    ctypes.c_void_p.from_buffer(_at(out)).value = number


@_function("nvmlDeviceRegisterEvents")
def _register(
    library: FakeLibrary, host: GpuHost, handle: Any, _kinds: object, events: Any
) -> None:
    library.sets[_address(events)][1].add(_gpu(host, handle).index)


@_function("nvmlEventSetWait_v2")
def _wait(library: FakeLibrary, host: GpuHost, events: Any, out: Any, _timeout_ms: object) -> None:
    _, registered = library.sets[_address(events)]
    while host.xids:
        gpu, xid = host.xids.popleft()
        if gpu in registered:
            _at(out).device = ctypes.cast(_FIRST_HANDLE + gpu, pynvml.c_nvmlDevice_t)
            _at(out).eventType = pynvml.nvmlEventTypeXidCriticalError
            _at(out).eventData = xid
            return
    raise Refusal(pynvml.NVML_ERROR_TIMEOUT)


@_function("nvmlEventSetFree")
def _free_set(library: FakeLibrary, _host: GpuHost, events: Any) -> None:
    library.sets.pop(_address(events), None)


# -- arguments ----------------------------------------------------------------------------------------------


def _at(reference: Any) -> Any:
    """What an argument by reference refers to."""
    return reference._obj  # noqa: SLF001 - ctypes has no other name for it


def _int(value: Any) -> int:
    return int(getattr(value, "value", value))


def _present(host: GpuHost) -> list[Gpu]:
    return [gpu for gpu in host.gpus if not gpu.absent]


def _address(pointer: Any) -> int:
    return int(ctypes.cast(pointer, ctypes.c_void_p).value or 0)


def _gpu(host: GpuHost, handle: Any) -> Gpu:
    at = _address(handle) - _FIRST_HANDLE
    if not 0 <= at < len(host.gpus):
        raise Refusal(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    gpu = host.gpus[at]
    if gpu.lost:
        raise Refusal(pynvml.NVML_ERROR_GPU_IS_LOST)
    return gpu
