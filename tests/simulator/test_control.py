"""The control socket: faults in, truth and ledger out, for this user alone."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from control_plane.simulator.control import Control, ControlClient, ControlError
from control_plane.simulator.serve import Serving, serve, serving
from tests.simulator.floors import a_site

FREE = {4028: 0, 80: 0}


async def ask(client: ControlClient, **request: Any) -> dict[str, Any]:
    return await asyncio.to_thread(client.request, request)


def test_faults_go_in_and_truth_comes_out(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:
            mode = running.control_path.stat().st_mode
            assert stat.S_IMODE(mode) == 0o600
            client = ControlClient(running.control_path)
            hit = await ask(
                client,
                do="fault",
                kind="hijack",
                target={"rack": "r-000"},
                url="stratum+tcp://evil:1",
                worker="e",
            )
            assert len(hit["assets"]) == 9
            told = await ask(client, do="truth", target={"rack": "r-000"})
            assert {tuple(m["pools"][0]) for m in told["machines"]} == {
                ("stratum+tcp://evil:1", "e")
            }
            totals = await ask(client, do="totals", target={"rack": "r-001"})
            assert 6 * 3000 < totals["drawn_w"] < 10 * 3500
            status = await ask(client, do="status")
            assert (status["machines"], status["writes"]) == (36, 0)
            assert status["absent"]["vacant"] == 4

    asyncio.run(work())


def test_the_ledger_names_what_reached_a_device_and_from_whom(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:
            reader, writer = await asyncio.open_connection(
                "127.1.0.15", running.server.ports[4028], local_addr=("127.0.0.77", 0)
            )
            writer.write(b'{"command":"addpool","parameter":"x"}')
            assert b"Access denied" in await reader.read()
            writer.close()
            client = ControlClient(running.control_path)
            told = await ask(client, do="ledger", rack="r-000")
            (write,) = told["writes"]
            assert write["asset"] == "M-000-005"
            assert (write["kind"], write["honoured"]) == ("addpool", False)
            assert write["peer"] == "127.0.0.77"
            assert (await ask(client, do="ledger", rack="r-001"))["matching"] == 0

    asyncio.run(work())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"hello", "not a request"),
        (b'{"do":"dance"}', "not a request"),
        (b'{"do":"fault","kind":"melt"}', "melt"),
        (b'{"do":"fault","kind":"reboot","target":{"asset":"M-9"}}', "no simulated machine"),
        (b'{"do":"fault","kind":"reboot","taget":{}}', "taget"),
    ],
    ids=["text", "unknown verb", "unknown fault", "nobody", "misspelt"],
)
def test_a_bad_request_is_answered_in_words(tmp_path: Path, line: bytes, words: str) -> None:
    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:
            answer = running.control.answer(line)
            assert words in answer["error"]

    asyncio.run(work())


def test_several_requests_share_a_connection(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:

            def talk() -> bytes:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(running.control_path))
                    sock.sendall(b'{"do":"status"}\n{"do":"totals"}\n')
                    sock.shutdown(socket.SHUT_WR)
                    return b"".join(iter(lambda: sock.recv(65_536), b""))

            answers = (await asyncio.to_thread(talk)).splitlines()
            assert len(answers) == 2
            assert b"drawn_w" in answers[1]

    asyncio.run(work())


def test_stop_ends_the_simulation_and_takes_its_files_away(tmp_path: Path) -> None:
    async def work() -> None:
        ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(a_site(), state=tmp_path, ready=ready))
        running = await ready
        client = ControlClient(running.control_path)
        assert await ask(client, do="stop") == {"stopping": True}
        await asyncio.wait_for(task, 10)

    asyncio.run(work())
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no simulator at"):
        ControlClient(tmp_path / "simulator.sock").request({"do": "status"})


@pytest.mark.parametrize("here", [True, False], ids=["from it", "from elsewhere"])
def test_a_deep_state_folder_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep if here else "/")

    async def work() -> None:
        async with serving(a_site(), state=deep, ports=FREE) as running:
            assert isinstance(running.control, Control)
            told = await ask(ControlClient(running.control_path), do="status")
            assert told["site"] == "toy"

    asyncio.run(work())
