"""What a GPU host tells of itself, and its reboot, on simulated machines behind a real SSH server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import paramiko
import pytest

from control_plane.core.errors import UnexpectedReply
from control_plane.core.gpu import XidEvent
from control_plane.hosts.connection import Connection, Reply, Target
from control_plane.hosts.gpu_host import DRIVER, HostFacts, read_facts, read_xids
from control_plane.hosts.keys import HostKey, Pins
from control_plane.hosts.reboot import Connect, Rebooted, RebootEnd, await_boot, reboot
from control_plane.hosts.ssh import Ssh
from control_plane.simulator.hosts.machine import Ended, Faults, Machine
from control_plane.simulator.hosts.sshd import Hall

GPUS = ["0000:0f:00.0", "0000:2d:00.0"]
FELL_OFF = "NVRM: Xid (PCI:0000:0f:00): 79, pid='<unknown>', GPU has fallen off the bus."
LOGIN = paramiko.ECDSAKey.generate(bits=256)


class Host:
    """One machine, and the way to it."""

    def __init__(self, hall: Hall) -> None:
        self.hall, self.machine = hall, hall.machines["g1"]
        key = hall.host_keys["g1"]
        pins = Pins({f"[g1]:{hall.ports['g1']}": [HostKey(key.get_name(), key.asbytes())]})
        self.ssh = Ssh(LOGIN, pins, connect_s=5)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        target = Target(name="g1", address=self.machine.address, port=self.hall.ports["g1"])
        with self.ssh.connect(target) as connection:
            yield connection


@pytest.fixture
def host() -> Iterator[Host]:
    with Hall(["g1"], LOGIN) as hall:
        found = Host(hall)
        found.machine.gpus = list(GPUS)
        found.machine.put(DRIVER, "595.91.07\n")
        found.machine.put("/sys/class/dmi/id/product_serial", "S462\n")
        yield found
        found.ssh.close()


def test_a_host_tells_what_it_is(host: Host) -> None:
    with host.connect() as connection:
        assert read_facts(connection) == HostFacts(
            boot_id=host.machine.boot_id,
            os="Ubuntu 24.04.3 LTS",
            kernel="6.8.0-79-generic",
            serial="S462",
            memory_bytes=2_113_413_120 * 1024,
            driver="595.91.07",
            gpus=("00000000:0F:00.0", "00000000:2D:00.0"),
        )


@pytest.mark.parametrize("said", ["To be filled by O.E.M.", "", "Default string"])
def test_a_maker_s_placeholder_is_no_serial(host: Host, said: str) -> None:
    host.machine.put("/sys/class/dmi/id/product_serial", f"{said}\n")
    del host.machine.files[DRIVER]
    with host.connect() as connection:
        found = read_facts(connection)
    assert (found.serial, found.driver) == (None, None)


def test_without_lspci_nothing_is_known_of_the_bus(host: Host) -> None:
    host.machine.faults = Faults(fails_at=("lspci",))
    with host.connect() as connection:
        assert read_facts(connection).gpus is None


def test_a_host_without_a_boot_id_is_none(host: Host) -> None:
    del host.machine.files["/proc/sys/kernel/random/boot_id"]
    with host.connect() as connection, pytest.raises(UnexpectedReply, match="no boot id"):
        read_facts(connection)


def test_errors_of_the_driver_stand_in_the_kernel_s_log(host: Host) -> None:
    host.machine.kernel_log += [
        (1_700_000_000.0, "nvidia: loading out-of-tree module taints kernel."),
        (1_700_000_100.5, FELL_OFF),
        (1_700_000_101.0, "NVRM: Xid (PCI:00000001:2D:00.0): 154, GPU recovery action changed"),
    ]
    with host.connect() as connection:
        assert read_xids(connection) == (
            XidEvent(at_s=1_700_000_100.5, xid=79, gpu="00000000:0F:00.0"),
            XidEvent(at_s=1_700_000_101.0, xid=154, gpu="00000001:2D:00.0"),
        )


def test_a_log_without_an_error_has_none_and_one_that_cannot_be_read_is_unknown(host: Host) -> None:
    with host.connect() as connection:
        assert read_xids(connection) == ()
        host.machine.faults = Faults(fails_at=("journalctl",))
        with pytest.raises(UnexpectedReply, match="cannot be read"):
            read_xids(connection)


@pytest.mark.parametrize(
    "text", ['{"MESSAGE": 1}', "no json", '{"__REALTIME_TIMESTAMP": "x", "MESSAGE": ""}']
)
def test_a_line_that_is_none_of_a_journal_is_unknown(text: str) -> None:
    class Odd:
        name = "g1"

        def run(self, *_commands: object, **_more: object) -> Reply:
            return Reply(code=0, out=f"{text}\n", err="")

    with pytest.raises(UnexpectedReply, match="line 1"):
        read_xids(Odd())


# --- reboot ----------------------------------------------------------------------------------


def again(connect: Connect, before: str) -> RebootEnd:
    return reboot(connect, before, deadline_s=5, look_s=0.01)


def reboots(machine: Machine) -> int:
    return sum("systemctl reboot" in line for line in machine.log)


def test_a_reboot_is_believed_by_its_boot_id(host: Host) -> None:
    before = host.machine.boot_id
    end = again(host.connect, before)
    assert end == RebootEnd(what=Rebooted.DONE, boot_id=host.machine.boot_id)
    assert host.machine.boot_id != before
    assert reboots(host.machine) == 1


def test_a_host_that_was_rebooted_meanwhile_is_left_alone(host: Host) -> None:
    before = host.machine.boot_id
    host.machine.cut()
    host.machine.boot()
    now = host.machine.boot_id
    end = again(host.connect, before)
    assert (end.what, end.boot_id, host.machine.boot_id) == (Rebooted.OTHER, now, now)


def test_a_host_that_refuses_has_not_begun(host: Host) -> None:
    host.machine.faults = Faults(fails_at=("systemctl",))
    end = again(host.connect, host.machine.boot_id)
    assert end.what is Rebooted.NOT_BEGUN
    assert "simulated failure" in end.detail


def test_a_reboot_that_is_said_and_does_not_happen_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(host.machine._programs, "systemctl", lambda *_: Ended())
    end = reboot(host.connect, host.machine.boot_id, deadline_s=0.2, look_s=0.01)
    assert end.what is Rebooted.NOT_BEGUN
    assert reboots(host.machine) == 1


def test_a_host_that_does_not_come_back_is_silent(host: Host) -> None:
    before = host.machine.boot_id
    host.machine.faults = Faults(dies_at=("systemctl", "reboot"))
    end = reboot(host.connect, before, deadline_s=0.5, look_s=0.01)
    assert (end.what, end.boot_id) == (Rebooted.SILENT, None)
    assert reboots(host.machine) == 1

    host.machine.boot()
    found = await_boot(host.connect, before, deadline_s=5, look_s=0.01)
    assert (found.what, found.boot_id) == (Rebooted.DONE, host.machine.boot_id)
