"""The transport against a real SSH server: deadlines, jump hosts, logins, hosts that go dark."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from control_plane.core.errors import Unreachable
from control_plane.hosts.connection import Target, check
from control_plane.hosts.converge import converge
from control_plane.hosts.errors import CommandFailed, DeadlinePassed, LineBroke, LoginRefused
from control_plane.hosts.items import Payload
from control_plane.hosts.keys import HostKey, Pins
from control_plane.hosts.ssh import Ssh, login_key
from control_plane.simulator.hosts.sshd import Hall

LOGIN = paramiko.ECDSAKey.generate(bits=256)


@pytest.fixture
def hall() -> Iterator[Hall]:
    with Hall(("a", "b"), LOGIN) as made:
        yield made


def target(hall: Hall, name: str, *, via: Target | None = None, user: str = "root") -> Target:
    address, port = hall.machines[name].address, hall.ports[name]
    return Target(name=name, address=address, port=port, via=via, user=user)


def ssh(hall: Hall, login: paramiko.PKey | None = LOGIN, *, connect_s: float = 20.0) -> Ssh:
    keys = {
        f"[{name}]:{hall.ports[name]}": [HostKey(key.get_name(), key.asbytes())]
        for name, key in hall.host_keys.items()
    }
    return Ssh(login, Pins(keys), connect_s=connect_s)


def soon(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_command_gets_its_input_and_gives_its_output(hall: Hall) -> None:
    with ssh(hall).connect(target(hall, "a")) as connection:
        content = bytes(range(256)) * 4_000
        reply = connection.run(("dd", "of=/x"), ("cat", "/x"), stdin=content)
        assert reply.code == 0
        assert hall.machines["a"].files["/x"].content == content
        assert connection.run(("cat", "/nowhere")).code == 1


def test_a_file_of_this_machine_is_sent_in_pieces(hall: Hall, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    with ssh(hall).connect(target(hall, "a")) as connection:
        connection.run(("dd", "of=/x"), stdin=tmp_path / "large")
    assert hall.machines["a"].files["/x"].content == b"x" * 3_000_000


def test_what_a_declaration_says_is_never_read_as_shell(hall: Hall) -> None:
    with ssh(hall).connect(target(hall, "a")) as connection:
        connection.run(("cat", "x; reboot && echo `id` $HOME"))
    assert hall.machines["a"].log == ["cat 'x; reboot && echo `id` $HOME'"]


def test_others_than_root_become_root(hall: Hall) -> None:
    with ssh(hall).connect(target(hall, "a", user="operator")) as connection:
        assert connection.run(("cat", "/proc/swaps"), ("true",)).code == 0
    assert hall.machines["a"].log == ["sudo -n cat /proc/swaps && sudo -n true"]


def test_a_jump_host_carries_the_rest(hall: Hall) -> None:
    with (
        contextlib.closing(ssh(hall)) as way,
        way.connect(target(hall, "b", via=target(hall, "a"))) as connection,
    ):
        assert connection.run(("true",)).code == 0
    assert hall.machines["a"].log == []
    assert hall.machines["b"].log == ["true"]


def test_a_jump_host_that_is_lost_hides_nothing_that_came_about(hall: Hall) -> None:
    opener = ssh(hall)
    with opener.connect(target(hall, "b", via=target(hall, "a"))) as connection:
        reply = connection.run(("cat", "/nowhere"))
        # As when its line breaks: it is not known yet when the connection behind it is closed.
        (jump,) = opener._jumps.values()
        jump.packetizer.close()
    assert reply.code == 1


def test_behind_a_jump_host_nobody_answers(hall: Hall) -> None:
    hall.machines["b"].cut()
    gone = Target(name="gone", address="127.9.200.1", port=1, via=target(hall, "a"))
    with (
        contextlib.closing(ssh(hall)) as way,
        pytest.raises(Unreachable, match=r"host gone .* cannot be reached through a"),
        way.connect(gone),
    ):
        pass


def test_a_login_that_is_not_let_in(hall: Hall) -> None:
    stranger = paramiko.ECDSAKey.generate(bits=256)
    with (
        pytest.raises(LoginRefused, match=r"host a .* does not let root in"),
        ssh(hall, stranger).connect(target(hall, "a")),
    ):
        pass


def test_a_line_that_broke_while_nothing_went_over_it_is_opened_anew(hall: Hall) -> None:
    with (
        contextlib.closing(ssh(hall)) as way,
        way.connect(target(hall, "b", via=target(hall, "a"))) as connection,
    ):
        assert connection.run(("true",)).code == 0
        (jump,) = way._jumps.values()
        jump.packetizer.close()
        jump.join(10)
        connection._transport.join(10)
        assert not connection._transport.is_active()
        assert connection.run(("cat", "/nowhere")).code == 1
    assert hall.machines["b"].log == ["true", "cat /nowhere"], "each once"


def test_a_line_that_broke_under_another_one_ends_it_without_a_word(hall: Hall) -> None:
    """A thread of paramiko closes it, and whatever that raises would go to standard error."""
    with (
        contextlib.closing(ssh(hall)) as way,
        way.connect(target(hall, "b", via=target(hall, "a"))) as connection,
    ):
        (jump,) = way._jumps.values()
        jump.packetizer.close()
        assert jump.is_active(), "it does not know yet"
        connection._transport.sock.close()


def test_a_line_that_breaks_once_during_the_login_is_tried_again(hall: Hall) -> None:
    hall.machines["a"].faults.cuts_logins = 1
    with ssh(hall).connect(target(hall, "a")) as connection:
        assert connection.run(("true",)).code == 0


def test_a_line_that_breaks_during_the_login_is_no_refusal(hall: Hall) -> None:
    hall.machines["a"].faults.cuts_logins = 2
    way = ssh(hall)
    with (
        pytest.raises(Unreachable, match=r"host a .* was lost while root logged in"),
        way.connect(target(hall, "a")),
    ):
        pass
    with way.connect(target(hall, "a")) as connection:
        assert connection.run(("true",)).code == 0


def test_a_login_that_gets_no_answer_is_no_refusal(hall: Hall) -> None:
    hall.machines["a"].faults.stalls_logins = True
    began = time.monotonic()
    with (
        pytest.raises(Unreachable, match=r"host a .* did not answer root's login in time"),
        ssh(hall, connect_s=2.0).connect(target(hall, "a")),
    ):
        pass
    assert time.monotonic() - began < 15
    hall.machines["a"].cut()


def test_an_agent_with_several_keys_offers_them_one_by_one(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers = [paramiko.ECDSAKey.generate(bits=256) for _ in range(2)]
    held: list[paramiko.PKey] = []
    monkeypatch.setattr(paramiko.Agent, "get_keys", lambda _agent: tuple(held))
    held[:] = [*strangers, LOGIN]
    with ssh(hall, None).connect(target(hall, "a")) as connection:
        assert connection.run(("true",)).code == 0
    held[:] = strangers
    with (
        pytest.raises(LoginRefused, match=r"with any of 2 keys of the SSH agent"),
        ssh(hall, None).connect(target(hall, "a")),
    ):
        pass


def test_nobody_listens(hall: Hall) -> None:
    nowhere = Target(name="gone", address="127.9.200.1", port=1)
    with (
        pytest.raises(Unreachable, match=r"host gone .* takes no connection"),
        ssh(hall).connect(nowhere),
    ):
        pass


def test_somebody_listens_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = Target(name="mute", address="127.0.0.1", port=silent.getsockname()[1])
        began = time.monotonic()
        with (
            pytest.raises(Unreachable, match=r"host mute .* does not speak SSH in time"),
            Ssh(LOGIN, Pins(), connect_s=0.3).connect(target),
        ):
            pass
        assert time.monotonic() - began < 5


def test_a_command_that_does_not_end_ends_for_us(hall: Hall) -> None:
    hall.machines["a"].faults.hangs_at = ("kubeadm",)
    with (
        ssh(hall).connect(target(hall, "a")) as connection,
        pytest.raises(DeadlinePassed, match="host a: `kubeadm init` did not end in 0 s"),
    ):
        connection.run(("kubeadm", "init"), deadline_s=0.2)
    hall.machines["a"].cut()


def test_a_host_that_goes_dark_under_a_command(hall: Hall) -> None:
    hall.machines["a"].faults.dies_at = ("kubeadm",)
    with (
        ssh(hall).connect(target(hall, "a")) as connection,
        pytest.raises(DeadlinePassed, match="host a: `kubeadm init` was cut off"),
    ):
        connection.run(("kubeadm", "init"), deadline_s=5)


def test_what_many_have_sent_over_a_jump_host_never_stops_it_for_new_keys(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paramiko asks for new keys after 512 MiB, and may stand still where a channel is closed then."""
    monkeypatch.setattr(paramiko.packet.Packetizer, "REKEY_BYTES", 100_000)
    exchanged: list[int] = []
    exchange = paramiko.Transport._send_kex_init  # type: ignore[attr-defined]  # its stubs leave it out

    def counted(transport: paramiko.Transport) -> None:
        exchanged.append(id(transport))
        exchange(transport)

    monkeypatch.setattr(paramiko.Transport, "_send_kex_init", counted)
    with (
        contextlib.closing(ssh(hall)) as way,
        way.connect(target(hall, "b", via=target(hall, "a"))) as connection,
    ):
        for _ in range(5):
            assert connection.run(("dd", "of=/x"), stdin=b"x" * 200_000).code == 0
    assert len(exchanged) == len(set(exchanged)) == 4, (
        "once by each end, of each of two connections"
    )


@pytest.mark.parametrize("cuts", [1, 2])
def test_a_line_that_breaks_under_a_file_leaves_the_old_one_and_is_tried_once_more(
    hall: Hall, tmp_path: Path, cuts: int
) -> None:
    """A host takes the end of the line for the end of the file, and its commands go on."""
    machine = hall.machines["a"]
    machine.put("/opt/program", "old")
    machine.faults.cuts_inputs = cuts
    source = tmp_path / "program"
    source.write_bytes(b"new" * 100_000)
    program = Payload(
        name="program", kind="file", source=str(source), target="/opt/program",
        sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
    )  # fmt: skip
    with ssh(hall).connect(target(hall, "a")) as connection:
        if cuts == 1:
            assert converge(connection, [program]) == ("/opt/program: replaced",)
        else:
            with pytest.raises(LineBroke, match=r"host a: .* was cut off"):
                converge(connection, [program])
    soon(lambda: sum("dd of=/opt/" in line for line in machine.log) == 2)
    whole = machine.files["/opt/program"].content
    assert whole == (source.read_bytes() if cuts == 1 else b"old")


def test_an_error_shows_no_secret(hall: Hall) -> None:
    machine = hall.machines["a"]
    machine.faults.fails_at = ("cat",)
    token = "abcdef.0123456789abcdef"
    with ssh(hall).connect(target(hall, "a")) as connection, pytest.raises(CommandFailed) as told:
        check(connection, ("cat", f"--token={token}", "hunter2"), secrets=("hunter2",))
    assert token not in str(told.value)
    assert "hunter2" not in str(told.value)
    assert "host a: `cat" in str(told.value)


def test_a_login_key_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("not a key, but secret")
    with pytest.raises(LoginRefused, match="is no private key that can be used here") as told:
        login_key(tmp_path / "key")
    assert "secret" not in str(told.value)
    with pytest.raises(LoginRefused, match="FileNotFoundError"):
        login_key(tmp_path / "missing")
