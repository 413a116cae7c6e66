"""The port `Nvml` over the library of this host, aside of the event loop, since NVML hangs on sick GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from control_plane.core import limits
from control_plane.core.gpu import NodeSeen, Trouble
from control_plane.core.gpu_settings import GpuOutcome, GpuWrite, WriteResult
from control_plane.drivers.aside import Aside, Hung
from control_plane.drivers.nvml import NvmlLibrary

T = TypeVar("T")

_PID_NAMESPACE: Final = Path("/proc/self/ns/pid")
_FIRST_PID_NAMESPACE: Final = 0xEFFF_FFFC
"""Its inode where it is the one that the kernel began with (`PROC_PID_INIT_INO`)."""


def sees_all_processes(namespace: Path = _PID_NAMESPACE) -> bool:
    """Whether the driver tells this process of everybody's: not outside of the host's own PID namespace.

    Elsewhere it leaves out, without a word, who has no number in the namespace of who asks
    (`gpuGetProcWithObject` and `os_find_ns_pid` of NVIDIA's open kernel modules, 570.86).
    """
    try:
        return namespace.stat().st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


class HostNvml:
    """One for a host; it has a thread of its own."""

    def __init__(
        self,
        library: NvmlLibrary | None = None,
        *,
        deadline_s: float | None = limits.GPU_ANSWER_S,
    ) -> None:
        """Nothing is opened yet.

        Args:
            library: of this host, unless told otherwise.
            deadline_s: wire seconds for a call; `None` calls without a thread, for a library that is
                simulated and never hangs, in virtual time.
        """
        self._library = library or NvmlLibrary(sees_all=sees_all_processes())
        self._aside = None if deadline_s is None else Aside(deadline_s)

    async def look(self, at_s: float) -> NodeSeen:
        """See `core.ports.Nvml`."""
        try:
            return await self._call(lambda: self._library.look(at_s))
        except Hung:
            return NodeSeen(at_s=at_s, trouble=Trouble.HUNG)

    async def apply(self, write: GpuWrite) -> GpuOutcome:
        """See `core.ports.Nvml`."""
        try:
            return await self._call(lambda: self._library.apply(write))
        except Hung:
            return GpuOutcome(result=WriteResult.UNREADABLE, detail=Trouble.HUNG.value)

    async def reset(self, gpu: str) -> GpuOutcome:
        """See `core.ports.Nvml`."""
        return self._library.reset(gpu)

    async def close(self) -> None:
        """See `core.ports.Nvml`."""
        try:
            await self._call(self._library.close)
        except Hung:
            return
        if self._aside is not None:
            self._aside.end()

    async def _call(self, act: Callable[[], T]) -> T:
        return act() if self._aside is None else await self._aside.call(act)
