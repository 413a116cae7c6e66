"""The agent's own HTTP client and follower, over a real socket, against the API server in memory."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.agent.api import Api, Server
from control_plane.agent.following import Contact, Follower, Own
from control_plane.api.objects import GROUP, KINDS, VERSION
from control_plane.api.v1alpha1 import API_VERSION
from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.core.cluster import (
    ClusterAway,
    ClusterError,
    Invalid,
    Kind,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
)
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.api_http import ApiHttp
from control_plane.simulator.api_server import ApiServer
from tests.stock import ROOT

(GPU_NODE,) = [
    Kind(group=GROUP, version=VERSION, kind=kind.name, plural=kind.plural)
    for kind in KINDS
    if kind.name == "GpuNode"
]


class Halved:
    """Chance that is none."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 200


class Scene:
    """A server, a client of it, and a follower."""

    def __init__(self, folder: Path, http: ApiHttp, port: int) -> None:
        self.http, self.folder = http, folder
        self.token = folder / "token"
        self.token.write_text("token\n")
        self.url = f"http://127.0.0.1:{port}"
        self.api = Api(Server(url=self.url, token=self.token, namespace="gridplane"))
        self.told: list[tuple[Contact, Own | None]] = []
        self.lines: list[str] = []
        self.following: list[asyncio.Task[None]] = []

    def declare(self, name: str = "gpu-1", node: str = "node-1", **spec: Any) -> None:
        body = {
            "apiVersion": API_VERSION, "kind": "GpuNode",
            "metadata": {"name": name, "namespace": "gridplane"},
            "spec": {"site": "lab", "rack": "g1", "nodeName": node, **spec},
        }  # fmt: skip
        self.http.server.apply(GPU_NODE, body, manager="gridplane", force=True, subresource="")

    def follow(self, node: str = "node-1") -> None:
        follower = Follower(
            self.api, node, told=lambda *told: self.told.append(told), say=self.lines.append,
            clock=SystemClock(), rng=Halved(),
        )  # fmt: skip
        self.following.append(asyncio.ensure_future(follower.run()))

    async def until(self, holds: Callable[[], object], within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 - what another process does sets no event
                await asyncio.sleep(0.01)

    def seen(self) -> tuple[Contact, str | None, float | None]:
        contact, own = self.told[-1]
        cap = own.spec.power_cap if own else None
        return contact, own.name if own else None, cap.gpu_w if cap else None


@asynccontextmanager
async def a_scene(folder: Path) -> AsyncIterator[Scene]:
    http = ApiHttp(ApiServer(SystemClock()), GPU_NODE)
    async with http.serving() as port:
        yield Scene(folder, http, port)


def play(folder: Path, story: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with a_scene(folder) as scene:
            try:
                await story(scene)
            finally:
                for task in scene.following:
                    task.cancel()

    asyncio.run(main())


def cap(gpu_w: float) -> dict[str, Any]:
    until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=10)
    return {"gpuW": gpu_w, "fence": 1, "grantedUntil": f"{until:%Y-%m-%dT%H:%M:%SZ}"}


def test_it_sees_its_own_object_and_every_change_of_it(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.declare("gpu-2", "node-2", powerCap=cap(300))
        scene.follow()
        await scene.until(lambda: scene.told)
        assert scene.seen() == (Contact.NOT_DECLARED, None, None)
        scene.declare(powerCap=cap(500))
        await scene.until(lambda: scene.seen() == (Contact.FOUND, "gpu-1", 500))
        scene.declare(powerCap=cap(600))
        await scene.until(lambda: scene.seen() == (Contact.FOUND, "gpu-1", 600))
        scene.declare("gpu-9")
        await scene.until(lambda: scene.seen()[0] is Contact.AMBIGUOUS)
        scene.http.server.delete(GPU_NODE, "gridplane/gpu-9")
        await scene.until(lambda: scene.seen() == (Contact.FOUND, "gpu-1", 600))
        scene.declare("gpu-1", "node-7")
        await scene.until(lambda: scene.seen()[0] is Contact.NOT_DECLARED)
        assert scene.http.requests["list"] == 1, "one watch told it all"

    play(tmp_path, story)


def test_a_watch_that_breaks_goes_on_and_one_that_is_too_old_begins_anew(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.declare(powerCap=cap(500))
        scene.follow()
        await scene.until(lambda: scene.told and scene.http.server.watches)
        scene.http.cut()
        scene.declare(powerCap=cap(400))
        await scene.until(lambda: scene.seen() == (Contact.FOUND, "gpu-1", 400))
        await scene.until(lambda: scene.http.server.watches)
        scene.declare(powerCap=cap(350))
        scene.http.server.compact()
        for watch in list(scene.http.server.watches):
            scene.http.server.close(watch)
            watch.news.set()
        scene.declare(powerCap=cap(300))
        scene.http.server.compact()
        await scene.until(lambda: scene.seen() == (Contact.FOUND, "gpu-1", 300))

    play(tmp_path, story)


def test_a_new_token_is_taken_from_its_file(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.declare(powerCap=cap(500))
        scene.http.tokens = {"second"}
        scene.follow()
        await scene.until(lambda: bool(scene.lines))
        assert "Unauthorized" in scene.lines[0]
        scene.token.write_text("second")
        await scene.until(lambda: scene.told)
        assert scene.seen() == (Contact.FOUND, "gpu-1", 500)
        assert scene.lines[-1] == "the API server answers again"
        assert {"token", "second"} == set(scene.http.seen_tokens)

    play(tmp_path, story)


def test_a_spec_of_a_newer_release_is_not_obeyed(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.declare(powerCap={"gpuW": "all of them"})
        scene.follow()
        await scene.until(lambda: scene.told)
        assert scene.seen()[0] is Contact.NOT_UNDERSTOOD
        scene.declare(powerCap=cap(500), somethingNew=True)
        await scene.until(lambda: scene.seen() == (Contact.FOUND, "gpu-1", 500))

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, Unauthorized), (403, Rejected), (404, NotFound), (422, Invalid), (429, Throttled),
        (500, ClusterAway), (503, ClusterAway), (302, ClusterAway),
    ],
)  # fmt: skip
def test_what_a_server_refuses_is_one_of_our_errors(
    tmp_path: Path, code: int, error: type[ClusterError]
) -> None:
    async def story(scene: Scene) -> None:
        scene.http.refuse = code
        with pytest.raises(error, match="as it was told"):
            await scene.api.of_node("node-1")
        with pytest.raises(error, match="as it was told"):
            async for _ in scene.api.watch("node-1", "1"):
                pass

    play(tmp_path, story)


def test_a_status_is_ours_alone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.declare()
        body = {
            "apiVersion": API_VERSION,
            "kind": "GpuNode",
            "metadata": {"name": "gpu-1", "namespace": "gridplane"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "observedGeneration": 1,
            },
        }
        server = scene.http.server
        server.apply(GPU_NODE, body, manager="gridplane", force=True, subresource="status")
        ((item,), _) = await scene.api.of_node("node-1")
        ours = {"driver": "595", "conditions": [{"type": "GpusHealthy", "status": "True"}]}
        await scene.api.write_status("gpu-1", item.metadata.uid, ours)
        await scene.api.write_status("gpu-1", item.metadata.uid, {"driver": "610"})
        status = msgspec.json.decode(server.get(GPU_NODE, "gridplane/gpu-1").status)
        assert status == {
            "driver": "610", "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "True"}],
        }  # fmt: skip

    play(tmp_path, story)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
        b"\x00" * 70_000,
    ],
)
def test_whatever_answers_instead_of_a_server_is_an_error_of_ours(
    tmp_path: Path, said: bytes
) -> None:
    async def main() -> None:
        async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            await writer.drain()
            writer.close()

        listener = await asyncio.start_server(other, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        token = tmp_path / "token"
        token.write_text("token")
        api = Api(Server(url=f"http://127.0.0.1:{port}", token=token, namespace="gridplane"))
        async with listener:
            with pytest.raises(ClusterAway):
                await api.of_node("node-1")
            with pytest.raises(ClusterAway):
                async for _ in api.watch("node-1", "1"):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "authority", "words"),
    [
        ("http://10.0.0.1:6443", None, "without TLS"),
        ("https://10.0.0.1:6443", None, "authority"),
        ("10.0.0.1:6443", None, "no address"),
        ("ftp://10.0.0.1", None, "no address"),
    ],
)
def test_a_token_is_not_sent_to_whom_nobody_vouches_for(
    tmp_path: Path, url: str, authority: Path | None, words: str
) -> None:
    with pytest.raises(ClusterError, match=words):
        Api(Server(url=url, token=tmp_path / "t", authority=authority, namespace="gridplane"))


def test_a_certificate_of_another_authority_gets_no_token(tmp_path: Path) -> None:
    own, other = certificate(tmp_path, "own"), certificate(tmp_path, "other")

    async def main() -> None:
        http = ApiHttp(ApiServer(SystemClock()), GPU_NODE)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*own)
        token = tmp_path / "token"
        token.write_text("token")
        async with http.serving(context) as port:
            url = f"https://127.0.0.1:{port}"
            pinned = Api(Server(url=url, token=token, authority=own[0], namespace="gridplane"))
            assert (await pinned.of_node("node-1"))[0] == ()
            wrong = Api(Server(url=url, token=token, authority=other[0], namespace="gridplane"))
            with pytest.raises(ClusterAway, match="certificate verify failed"):
                await wrong.of_node("node-1")
        assert http.seen_tokens == ["token"]

    asyncio.run(main())


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private


# -- the process ----------------------------------------------------------------------------------------


def test_the_process_enforces_a_cap_tells_of_an_xid_and_leaves_limits_when_it_ends(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        orders = tmp_path / "orders.jsonl"
        orders.touch()
        scene.declare(powerCap=cap(500), gpus=8)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "control_plane.cli", "node-agent", "--node", "node-1",
            "--namespace", "gridplane", "--server", scene.url, "--token", str(scene.token),
            "--kept", str(tmp_path / "kept.json"), "--simulated", "h100", "--orders", str(orders),
            "--interval", "0.2", cwd=ROOT, stderr=subprocess.PIPE,
        )  # fmt: skip

        def status() -> dict[str, Any]:
            item = scene.http.server.get(GPU_NODE, "gridplane/gpu-1")
            found: dict[str, Any] = msgspec.json.decode(item.status) or {}
            return found

        try:
            await scene.until(lambda: status().get("enforcedGpuW") == 500, within_s=30)
            with orders.open("a") as file:
                file.write('{"do": "xid", "gpu": 2, "xid": 95}\n')
            await scene.until(lambda: status().get("alerts"))
            assert [a["xid"] for a in status()["alerts"]] == [95]
            scene.declare(powerCap=cap(400), gpus=8)
            await scene.until(lambda: status().get("enforcedGpuW") == 400)
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = await process.communicate()
        assert process.returncode == os.EX_OK, said
        writes = [line for line in said.decode().splitlines() if "gpu_power_limit" in line]
        assert {line.partition('"watts":')[2].partition("}")[0] for line in writes} == {
            "500.0", "400.0",
        }  # fmt: skip
        kept = msgspec.json.decode((tmp_path / "kept.json").read_bytes())
        assert kept["caps"]["grant"]["gpu_w"] == 400

    play(tmp_path, story)


def test_only_simulated_gpus_go_by_the_time_of_a_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "network-map.json"
    path.write_text('{"time_scale": 15, "epoch_s": 0}', encoding="utf-8")
    assert main(["node-agent", "--node", "n1", "--network-map", str(path)]) == Exit.USAGE
    assert "it needs --simulated" in capsys.readouterr().err
