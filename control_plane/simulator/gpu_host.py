"""One GPU host: BMC, kernel behind SSH, kubelet and GPUs are views of one machine.

    host = GpuMachine("lab-g1-n1", clock)           # booted, with GPUs that are well
    kubelet = Kubelet(host, server, rest)           # its `Node` in the API server twin: `simulator.kubelet`
    host.fall_off(3, mends=Mends.POWER_CYCLE)       # Xid 79: kernel log, NVML, allocatable
    host.bmc.reset("ForceRestart")                  # or over Redfish: `BmcDevice(host.bmc)`
    library.turn_to(host.gpus)                      # NVML: `simulator.nvml.FakeLibrary`
    host.ssh("cat /proc/sys/kernel/random/boot_id")

`gpu_hall.GpuHall` makes those of a site. Nothing ticks: what is due (a boot, a lease that ends) waits in the
BMC's one order, `bmc_pulse.Pulse` or whoever looks lets it happen, and a host at rest costs nothing.

What goes wrong is a method here, or a fault of the BMC:

| | |
|---|---|
| a GPU falls off its bus, until what mends it | `fall_off(gpu, mends=)` |
| another Xid; an uncorrectable error | `xid(gpu, number, words)`, `uncorrectable(gpu)` |
| the kernel hangs: SSH and kubelet are silent, the BMC is well | `hang()` |
| a reboot never ends: in firmware, or in the kernel | `bmc.faults.stuck_post`, `stuck_kernel` |
| a board was swapped: another serial in every view | `swap_board(serial)` |
| the BMC tells another serial than the host | `bmc.faults.serial` |
| tasks of the BMC are slow, stand still, fail | `bmc.faults.task_stuck_at`, `.task_fails`, `.lag_s` |
| every login at the BMC is refused | `bmc.faults.lockout` |
| the feed is gone | `bmc.lose_feed()`, `bmc.regain_feed()` |

What it is faithful to, and what it is not: docs/reference/bmc.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec

from control_plane.simulator.bmc import EPOCH_S, Bmc
from control_plane.simulator.bmc_profiles import DELL, Profile
from control_plane.simulator.gpus import Busy, Gpu, GpuHost, Model
from control_plane.simulator.hosts.kubernetes import Cluster
from control_plane.simulator.hosts.machine import Ended, Machine
from control_plane.simulator.hosts.programs import SYSTEM
from control_plane.simulator.machine import board_uuid, seed_of
from control_plane.simulator.wire import SimClock

BOOT_S: Final = 300.0
"""From power to a login: a server of eight GPUs takes five minutes and more."""
POST_SHARE: Final = 0.75
"""How much of a boot is firmware."""
KUBELET_S: Final = 15.0
"""From a login to a kubelet that says Ready."""
DRIVER_S: Final = 30.0
"""From a login to a driver that is loaded and a device plugin that offers its GPUs."""
BASE_W: Final = 1_660.0
"""Of a host beside its GPUs: with eight at rest 2.3 kW. Assumed, in the range of makers' calculators."""
FIRMWARE_W: Final = 1_100.0
"""While firmware runs; the same."""
APPLICATION_XIDS: Final = frozenset({13, 31, 43, 45, 68, 109})
"""Errors of an application: NVIDIA's device plugin (v0.17, `health.go`) withdraws no GPU for them."""
FELL_OFF: Final = "GPU has fallen off the bus."


class Mends(IntEnum):
    """The least that brings a GPU back."""

    RESET = 1
    REBOOT = 2
    POWER_CYCLE = 3
    NEVER = 4


class NoAnswer(Exception):
    """Nobody is behind SSH, or nobody who answers."""


class GpuMachine:
    """The machine. To its BMC it is `bmc.Chassis`: `boot` and `cut` are the BMC's to call."""

    def __init__(
        self,
        name: str,
        clock: SimClock,
        *,
        model: str | Model = "h200",
        gpus: int = 8,
        number: int = 0,
        serial: str | None = None,
        profile: Profile = DELL,
        boot_s: float = BOOT_S,
        kubelet_s: float = KUBELET_S,
        driver_s: float = DRIVER_S,
        user: str = "gridplane",
        password: str = "s3cret-of-this-one",  # noqa: S107 - made up
        machine: Machine | None = None,
        hang_up: Callable[[], None] = lambda: None,
        epoch_s: float = EPOCH_S,
    ) -> None:
        """It has booted, with its driver loaded.

        Args:
            name: of the asset, and of its `Node`.
            clock: device time.
            model: of its GPUs, as `GpuHost` takes it.
            gpus: how many.
            number: of the host among others: serial numbers of its GPUs follow from it.
            serial: of the host; follows from its name.
            profile: its BMC's maker; its times of a boot are replaced.
            boot_s: device seconds from power to a login.
            kubelet_s: from there to a kubelet that is ready.
            driver_s: from there to GPUs that are offered.
            user: of the BMC.
            password: of the BMC.
            machine: one that has an SSH server already (`hosts.sshd.Hall`), whose threads call `reboots`: on
                a loop have it call `reboot` there. Else it has one of its own.
            hang_up: breaks the connections to that one.
            epoch_s: the calendar at device time 0.
        """
        self.name, self.kubelet_s, self.driver_s = name, kubelet_s, driver_s
        self.serial = serial or f"S{seed_of(name) % 10**11:011d}"
        self.machine = machine or Machine(name, "", SYSTEM, Cluster())
        self.gpus = GpuHost(
            model, gpus=gpus, number=number, now_s=lambda: epoch_s + clock.device_s()
        )
        self.model_name = profile.model
        self.is_hung = False
        self.stuck_kernel = False
        """Kernels that are booted from now on end before anybody can log in."""
        self.has_kubelet = True
        """Whether its kubelet answers, unless the kernel is hung."""
        self.plugged = True
        """Whether the device plugin offers GPUs."""
        self.withdrawn: set[int] = set()
        """GPUs that it withdrew since it started."""
        self.watchers: list[Callable[[], None]] = []
        """Told whenever any of its views may be another one than before."""
        self._broken: dict[int, Mends] = {}
        self._hang_up = hang_up
        self._boots = 0
        self._life = 0
        self._cold_boots = 0
        self.machine.new_boot_id = self._new_boot_id
        self.machine.reboots = self.reboot
        self._begin()
        self._load()
        post_s = boot_s * POST_SHARE
        timed = msgspec.structs.replace(profile, post_s=post_s, os_s=boot_s - post_s)
        self.bmc = Bmc(timed, self, clock, user=user, password=password, epoch_s=epoch_s)

    # -- what the BMC sees and does: `bmc.Chassis` ------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Whether a kernel runs, hung or not."""
        return self.machine.is_on

    @property
    def boot_id(self) -> str:
        """Of the kernel that runs, or ran last."""
        return self.machine.boot_id

    @property
    def board(self) -> str:
        """Follows from its serial."""
        return board_uuid(self.serial)

    @property
    def hears_button(self) -> bool:
        """A kernel that hangs does not."""
        return self.is_on and not self.is_hung

    def draw_w(self) -> float:
        """Less while firmware runs."""
        if not self.is_on:
            return FIRMWARE_W
        return BASE_W + sum(gpu.power_w for gpu in self.gpus.gpus if not gpu.lost)

    def boot(self) -> None:
        """Firmware is done."""
        if self.stuck_kernel:
            return
        is_cold = self.bmc.power_losses != self._cold_boots
        self._cold_boots = self.bmc.power_losses
        self._mend(Mends.POWER_CYCLE if is_cold else Mends.REBOOT)
        self._begin()
        life = self._life

        def in_this_life(act: Callable[[], None]) -> Callable[[], None]:
            return lambda: act() if life == self._life and not self.is_hung else None

        self.bmc.later(self.kubelet_s, in_this_life(self._start_kubelet))
        self.bmc.later(self.driver_s, in_this_life(self._start_driver))
        self._tell()

    def cut(self) -> None:
        """Nothing runs any more; what the driver kept is gone with it."""
        self._life += 1
        self.machine.cut()
        self._hang_up()
        self.is_hung = self.has_kubelet = self.plugged = False
        self.gpus.pass_time()
        self.gpus.loaded, self.gpus.clients = False, 0
        for gpu in self.gpus.gpus:
            gpu.demand_w = gpu.model.idle_w
        self._tell()

    def _new_boot_id(self) -> str:
        self._boots += 1
        return str(uuid.UUID(int=seed_of(f"{self.name}/boot/{self._boots}"), version=4))

    def _begin(self) -> None:
        """A kernel, and who can log in to it."""
        self.machine.faults.stalls_logins = self.is_hung = False
        self.machine.boot()
        self.machine.put("/sys/class/dmi/id/product_serial", f"{self.serial}\n")
        self.machine.put("/sys/class/dmi/id/product_name", f"{self.model_name}\n")
        self.machine.files.pop("/sys/module/nvidia/version", None)
        self.machine.gpus = [_bus(gpu) for gpu in self.gpus.gpus if not self._is_broken(gpu)]

    def _start_kubelet(self) -> None:
        self.has_kubelet = True
        self._tell()

    def _start_driver(self) -> None:
        self._load()
        self._tell()

    def _load(self) -> None:
        self.gpus.pass_time()
        for gpu in self.gpus.gpus:
            gpu.dead = self._is_broken(gpu)
        self.gpus.reboot()
        self.machine.put("/sys/module/nvidia/version", f"{self.gpus.driver}\n")
        self.plugged = True
        self.withdrawn.clear()

    def unload_driver(self) -> None:
        """Its driver's pod ends, and takes the driver out of the kernel; nobody offers GPUs meanwhile.

        Raises:
            Busy: somebody has it open, or computes.
        """
        self.bmc.settle()
        self.gpus.pass_time()
        self.gpus.unload()
        self.machine.files.pop("/sys/module/nvidia/version", None)
        self.plugged = False
        self._tell()

    def load_driver(self, version: str) -> None:
        """A driver's pod is ready, and so is the device plugin; a host that is off has it with its boot."""
        self.bmc.settle()
        self.gpus.driver = version
        if not self.runs_pods:
            return
        self.gpus.pass_time()
        self.gpus.load(version)
        self.machine.put("/sys/module/nvidia/version", f"{version}\n")
        self.plugged = True
        self.withdrawn.clear()
        self._tell()

    # -- GPUs ---------------------------------------------------------------------------------------------

    def fall_off(self, gpu: int, *, mends: Mends = Mends.REBOOT) -> None:
        """It is gone from its bus (Xid 79), until what mends it was done."""
        self.bmc.settle()
        self._broken[gpu] = mends
        self.xid(gpu, 79, FELL_OFF)
        self.gpus.gpus[gpu].lost = True
        self._tell()

    def xid(self, gpu: int, number: int, words: str = "") -> None:
        """The driver reports an error: in the kernel's log, to who listens, and to the device plugin."""
        self._log(gpu, number, words)
        self.gpus.xid(gpu, number)
        self._tell()

    def uncorrectable(self, gpu: int, *, remap: bool = True) -> None:
        """An uncorrectable error of memory; the row is replaced at the next reset or boot, or cannot be."""
        self._log(gpu, 48, "An uncorrectable double bit error (DBE) has been detected")
        self._log(gpu, 63 if remap else 64, "Row Remapper: a row is to be remapped")
        self.gpus.uncorrectable(gpu, remap=remap)
        self._tell()

    def _log(self, gpu: int, number: int, words: str) -> None:
        self.bmc.settle()
        if not self.gpus.loaded:
            return
        where = _bus(self.gpus.gpus[gpu]).rpartition(".")[0]
        line = f"NVRM: Xid (PCI:{where}): {number}, pid='<unknown>', name=<unknown>, {words}"
        self.machine.kernel_log.append((self.bmc.wall_s, line))
        if number not in APPLICATION_XIDS:
            self.withdrawn.add(gpu)

    def reset_gpu(self, gpu: int) -> bool:
        """`nvidia-smi --gpu-reset`, with the device plugin out of its way: whether the GPU answers now.

        Raises:
            Busy: somebody has the driver open, as an agent that runs does, or computes on it.
            NoAnswer: there is no driver.
        """
        self.bmc.settle()
        if not self.gpus.loaded or self.is_hung:
            raise NoAnswer(self.name)
        if self.gpus.clients or self.gpus.gpus[gpu].processes:
            raise Busy
        if self._broken.get(gpu, Mends.RESET) > Mends.RESET:
            return False
        self._broken.pop(gpu, None)
        self.gpus.pass_time()
        self.gpus.gpus[gpu].reset()
        self.withdrawn.discard(gpu)
        self._tell()
        return True

    def mend(self) -> None:
        """Nothing is broken any more: GPUs that fell off come back with the next reset or boot."""
        self.bmc.settle()
        self._broken.clear()

    def replace_gpu(self, gpu: int) -> None:
        """A person puts another one in; it is there with the next boot.

        Raises:
            ValueError: the power is on.
        """
        self._require_off()
        one = self.gpus.gpus[gpu]
        self._broken.pop(gpu, None)
        fresh = Gpu(gpu, one.model, seed_of(f"{one.serial}/next") % 10**6)
        self.gpus.gpus[gpu] = fresh

    def offered(self) -> int | None:
        """GPUs that pods can have; `None` while nobody offers any."""
        if not self.plugged:
            return None
        return sum(not gpu.absent and gpu.index not in self.withdrawn for gpu in self.gpus.gpus)

    def _is_broken(self, gpu: Gpu) -> bool:
        return gpu.index in self._broken

    def _mend(self, by: Mends) -> None:
        self._broken = {gpu: mends for gpu, mends in self._broken.items() if mends > by}

    # -- the host -------------------------------------------------------------------------------------------

    @property
    def answers_ssh(self) -> bool:
        """Whether somebody can log in."""
        self.bmc.settle()
        return self.is_on and not self.is_hung

    @property
    def runs_pods(self) -> bool:
        """Whether its kubelet, and with it whatever it runs, is alive."""
        return self.is_on and not self.is_hung and self.has_kubelet

    def ssh(self, line: str, stdin: bytes = b"") -> Ended:
        """Log in and run a command.

        Raises:
            NoAnswer: nobody is there.
        """
        if not self.answers_ssh:
            raise NoAnswer(self.name)
        return self.machine.execute(line, stdin)

    def hang(self) -> None:
        """The kernel hangs, until it is reset from outside."""
        self.bmc.settle()
        if not self.is_on:
            return
        self.is_hung = self.machine.faults.stalls_logins = True
        self._tell()

    def reboot(self) -> None:
        """As somebody on it asks for it: `systemctl reboot`."""
        self.bmc.settle()
        if self.hears_button:
            self.bmc.restart_host(after_s=self.bmc.profile.shutdown_s)

    def swap_board(self, serial: str) -> None:
        """People put another board in: every view tells its serial from the next boot on.

        Raises:
            ValueError: the power is on.
        """
        self._require_off()
        self.serial = serial

    def _require_off(self) -> None:
        self.bmc.settle()
        if self.bmc.power != "Off":
            raise ValueError(f"{self.name} is {self.bmc.power}: nobody opens it")

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()


def _bus(gpu: Gpu) -> str:
    """As lspci and the kernel print it: with a domain of four digits."""
    return gpu.pci[4:].lower()
