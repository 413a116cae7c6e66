"""The adapter to an API server: credentials, a line that breaks, and what is said instead of an answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from kubernetes.aio.client.configuration import Configuration

from control_plane.core.cluster import (
    POD,
    ClusterAway,
    ClusterError,
    Conflict,
    DisruptionRefused,
    Exists,
    Gone,
    Invalid,
    Kind,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
)
from control_plane.kube import client as module
from control_plane.kube.client import Client, connect, in_cluster, kubeconfig
from control_plane.lab.api import ApiLab
from control_plane.lab.pki import Authority
from tests.kube.sides import CONFIG_MAP, OURS, body
from tests.lab.cluster import Cluster as Kubectl

MINER = OURS["Miner"]
REVIEW = Kind(
    group="authentication.k8s.io", version="v1", kind="SelfSubjectReview",
    plural="selfsubjectreviews", is_namespaced=False,
)  # fmt: skip


class Server:
    """Says the same to every request, as raw bytes; keeps the requests."""

    def __init__(self, said: bytes, *, holds: bool = False) -> None:
        self.said, self.holds = said, holds
        self.requests: list[str] = []
        self.port = 0
        self._serving: set[Any] = set()

    async def credentials(self, configuration: Configuration) -> None:
        configuration.host = f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        with contextlib.suppress(ConnectionError):
            writer.write(self.said)
            await writer.drain()
            if self.holds:
                await reader.read()
            writer.close()
            await writer.wait_closed()


def answer(code: int, said: object, *headers: str) -> bytes:
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    lines = [f"HTTP/1.1 {code} Some", f"Content-Length: {len(content)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


def stream(*pieces: bytes, ends: bool = True) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + (b"0\r\n\r\n" * ends)


def status(code: int, reason: str, **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "message": "because", "reason": reason, "code": code, **more}


def event(kind: str, name: str) -> bytes:
    thing = {
        "kind": "Miner",
        "metadata": {"name": name, "resourceVersion": "7"},
        "spec": {"slot": 1},
    }
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def run(server: Server, ask: Callable[[Client], Awaitable[Any]], *, deadline_s: float = 5.0) -> Any:
    async def main() -> Any:
        async with server, connect(server.credentials, deadline_s=deadline_s) as client:
            return await ask(client)

    return asyncio.run(main())


async def get(client: Client) -> Any:
    return await client.get(MINER, "m1", namespace="one")


async def watch(client: Client) -> list[tuple[str, str]]:
    events = client.watch(MINER, resource_version="5", timeout_s=1)
    return [(event.type, event.object.metadata.name) async for event in events]


UNDECLARED = {
    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500,
    "message": "failed to create typed patch object (one/m1; gridplane.dev/v1alpha1, Kind=Miner): "
    ".status.because: field not declared in schema",
}  # fmt: skip
"""A patch that does not fit the schema, as release 1.36 has it: no reason, and a 500."""

OF_A_BUDGET = status(
    429, "TooManyRequests", details={"causes": [{"reason": "DisruptionBudget", "message": "b1"}]}
)
OF_TWO_BUDGETS = {
    "kind": "Status", "status": "Failure", "code": 500,
    "message": "This pod has more than one PodDisruptionBudget, because",
}  # fmt: skip
"""An eviction that a server does not decide about: no reason either."""


@pytest.mark.parametrize(
    ("code", "said", "error"),
    [
        (400, status(400, "BadRequest"), Invalid),
        (401, status(401, "Unauthorized"), Unauthorized),
        (403, status(403, "Forbidden"), Rejected),
        (404, status(404, "NotFound"), NotFound),
        (404, b"404 page not found\n", NotFound),
        (409, status(409, "AlreadyExists"), Exists),
        (409, status(409, "Conflict"), Conflict),
        (410, status(410, "Expired"), Gone),
        (413, status(413, "RequestEntityTooLarge"), Invalid),
        (422, status(422, "Invalid"), Invalid),
        (429, status(429, "TooManyRequests"), Throttled),
        (429, OF_A_BUDGET, DisruptionRefused),
        (500, OF_TWO_BUDGETS, DisruptionRefused),
        (500, status(500, "InternalError"), ClusterAway),
        (500, UNDECLARED, Invalid),
        (500, UNDECLARED | {"reason": "InternalError"}, ClusterAway),
        (502, b"<html>bad gateway</html>", ClusterAway),
        (503, b"", ClusterAway),
        (504, status(504, "Timeout"), ClusterAway),
    ],
)
def test_every_refusal_has_its_error(code: int, said: object, error: type[ClusterError]) -> None:
    server = Server(answer(code, said))
    with pytest.raises(ClusterError) as refused:
        run(server, get)
    assert type(refused.value) is error
    assert len(server.requests) == 1, "no call retries"
    if isinstance(said, dict):
        assert "because" in str(refused.value)


def test_a_pod_is_evicted_and_pods_of_a_node_are_asked_for() -> None:
    server = Server(answer(201, status(201, "")))
    run(server, lambda client: client.evict("p1", namespace="one", uid="u1"))
    assert server.requests[0].startswith("POST /api/v1/namespaces/one/pods/p1/eviction HTTP/1.1")
    server = Server(answer(200, {"metadata": {"resourceVersion": "7"}, "items": []}))
    run(server, lambda client: client.list_page(POD, fields="spec.nodeName=n1"))
    assert "/api/v1/pods?limit=500&fieldSelector=spec.nodeName%3Dn1 " in server.requests[0]


@pytest.mark.parametrize(
    ("headers", "details", "want_s"),
    [
        (["Retry-After: 7"], {}, 7.0),
        ([], {"details": {"retryAfterSeconds": 3}}, 3.0),
        (["Retry-After: Wed, 25 Nov 2026 10:00:00 GMT"], {}, None),
        ([], {}, None),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_says_when_to_come_again(
    code: int, headers: list[str], details: dict[str, Any], want_s: float | None
) -> None:
    with pytest.raises(ClusterAway) as refused:
        run(Server(answer(code, status(code, "Busy", **details), *headers)), get)
    assert refused.value.retry_after_s == want_s


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"<html>log in to the network</html>"),
        answer(200, b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
def test_who_is_no_api_server_is_away(said: bytes) -> None:
    with pytest.raises(ClusterAway):
        run(Server(said), get)


@pytest.mark.parametrize("verb", ["get", "replace", "delete"])
def test_a_line_that_breaks_unanswered_is_not_tried_again(verb: str) -> None:
    """The library beneath would send it twice, and a renewal of a Lease would meet its own first."""
    ask: dict[str, Callable[[Client], Awaitable[Any]]] = {
        "get": get,
        "replace": lambda client: client.replace(MINER, body(MINER, "m1", "one")),
        "delete": lambda client: client.delete(MINER, "m1", namespace="one"),
    }
    server = Server(b"")
    with pytest.raises(ClusterAway):
        run(server, ask[verb])
    assert len(server.requests) == 1


def test_nobody_there_is_away() -> None:
    async def nobody(configuration: Configuration) -> None:
        configuration.host = "http://127.0.0.1:1"

    async def main() -> None:
        async with connect(nobody) as client:
            await get(client)

    with pytest.raises(ClusterAway):
        asyncio.run(main())


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], ids=["nothing", "a part"]
)
def test_silence_is_away_after_the_deadline(said: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterAway):
        run(Server(said, holds=True), get, deadline_s=0.3)
    assert 0.3 <= time.monotonic() - started < 3


def test_a_watch_of_which_nothing_is_heard_begins_not_or_ends_late() -> None:
    with pytest.raises(ClusterAway):
        run(Server(b"", holds=True), watch, deadline_s=0.3)
    with pytest.raises(ClusterAway):
        run(Server(stream(event("ADDED", "a"), ends=False), holds=True), watch, deadline_s=0.3)


def test_a_watch_tells_line_by_line_and_ends_as_the_server_ends_it() -> None:
    lines = (
        event("ADDED", "a") + event("MODIFIED", "b") + event("DELETED", "c") + event("BOOKMARK", "")
    )
    pieces = [lines[:10], lines[10:200], lines[200:]]
    server = Server(stream(*pieces))
    assert run(server, watch) == [
        ("ADDED", "a"),
        ("MODIFIED", "b"),
        ("DELETED", "c"),
        ("BOOKMARK", ""),
    ]
    query = server.requests[0].split()[1].split("?")[1].split("&")
    assert set(query) == {
        "watch=true", "allowWatchBookmarks=true", "resourceVersion=5", "timeoutSeconds=1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            stream(
                json.dumps({"type": "ERROR", "object": status(410, "Expired")}).encode() + b"\n"
            ),
            Gone,
        ),
        (
            stream(json.dumps({"type": "ERROR", "object": status(500, "Etcd")}).encode() + b"\n"),
            ClusterAway,
        ),
        (stream(b'{"type":"ERROR","object":{}}\n'), ClusterAway),
        (stream(event("ADDED", "a"), b'{"type":"ADD'), ClusterAway),
        (stream(event("ADDED", "a"), ends=False), ClusterAway),
        (stream(b"<html>\n"), ClusterAway),
        (stream(b'{"type":"MOVED","object":{}}\n'), ClusterAway),
        (answer(410, status(410, "Expired")), Gone),
    ],
)
def test_a_watch_that_goes_wrong_says_so(said: bytes, error: type[ClusterError]) -> None:
    with pytest.raises(ClusterError) as refused:
        run(Server(said), watch)
    assert type(refused.value) is error


def test_what_is_longer_than_anything_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 1_000)
    monkeypatch.setattr(module, "MAX_BODY", 1_000)
    with pytest.raises(ClusterAway, match="more than 1000 bytes"):
        run(Server(stream(b"x" * 2_000)), watch)
    with pytest.raises(ClusterAway, match="more than 1000 bytes"):
        run(Server(answer(200, b"x" * 2_000)), get)


def test_names_are_quoted_and_empty_questions_left_out() -> None:
    server = Server(answer(200, {"metadata": {"resourceVersion": "5"}, "items": None}))
    page = run(
        server, lambda client: client.list_page(CONFIG_MAP, namespace="a/b", selector="x in (y)")
    )
    assert (page.items, page.next, page.remaining) == ((), "", None)
    target = server.requests[0].split()[1]
    assert target.startswith("/api/v1/namespaces/a%2Fb/configmaps?limit=500&labelSelector=x+in+")
    assert "continue" not in target
    assert "accept-encoding: identity" in server.requests[0].lower()


def test_the_environments_proxy_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    thing = {"metadata": {"name": "m1"}}
    assert run(Server(answer(200, thing)), get).metadata.name == "m1"


def test_an_object_lets_go_of_its_page() -> None:
    items = [
        {"metadata": {"name": f"m{n}", "managedFields": ["x" * 100_000]}, "spec": {}}
        for n in (1, 2)
    ]
    server = Server(answer(200, {"metadata": {}, "items": items}))
    page = run(server, lambda client: client.list_page(MINER))
    assert [bytes(item.spec) for item in page.items] == [b"{}", b"{}"]
    assert all(len(memoryview(item.spec).obj) == 2 for item in page.items)  # type: ignore[arg-type]


# --- credentials ---------------------------------------------------------------------------------


def test_a_server_that_is_not_verified_is_refused(tmp_path: Path) -> None:
    async def main(path: Path) -> None:
        async with connect(kubeconfig(path)):
            raise AssertionError("it connected")

    def config(**cluster: Any) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        path.write_text(
            yaml.safe_dump(
                {
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        return path

    insecure = {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}
    for path, words in (
        (config(**insecure), "insecure-skip-tls-verify"),
        (config(server="http://192.0.2.1"), "without TLS"),
        (config(server="http://example.com"), "without TLS"),
        (tmp_path / "missing", "cannot be read"),
    ):
        with pytest.raises(Unauthorized, match=words):
            asyncio.run(main(path))


@pytest.fixture
def account(api_lab: ApiLab, cluster: Kubectl, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a service account, and what the kubelet gives to a pod of it."""

    def make(name: str) -> Path:
        cluster.run("create", "serviceaccount", name)
        (tmp_path / "token").write_text(cluster.run("create", "token", name).strip())
        authority = server_of(api_lab)["certificate-authority-data"]
        (tmp_path / "ca.crt").write_bytes(base64.b64decode(authority))
        return tmp_path

    return make


def server_of(lab: ApiLab) -> dict[str, Any]:
    config = yaml.safe_load(lab.kubeconfig.read_text(encoding="utf-8"))
    found: dict[str, Any] = config["clusters"][0]["cluster"]
    return found


def in_pod(lab: ApiLab) -> dict[str, str]:
    server = urlsplit(server_of(lab)["server"])
    return {
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
    }


async def who(client: Client) -> str:
    """Whom the server takes the client for."""
    review = await client.create(REVIEW, body(REVIEW, "", ""))
    return str(json.loads(bytes(review.status))["userInfo"]["username"]).rpartition(":")[2]


@pytest.mark.lab
def test_a_pods_token_is_read_again_after_it_is_refused_and_in_time(
    api_lab: ApiLab, cluster: Kubectl, account: Callable[[str], Path]
) -> None:
    folder = account("first")

    async def main() -> None:
        credentials = in_cluster(folder, in_pod(api_lab))
        async with connect(credentials) as client, connect(credentials, refresh_s=0) as eager:
            assert (await who(client), await who(eager)) == ("first", "first")
            with pytest.raises(Rejected):
                await client.create(CONFIG_MAP, body(CONFIG_MAP, "c1", cluster.namespace))
            account("second")
            assert (await who(client), await who(eager)) == ("first", "second")
            (folder / "token").write_text("not a token")
            with pytest.raises(Unauthorized):
                await who(eager)
            async with connect(credentials) as late:
                with pytest.raises(Unauthorized):
                    await who(late)
                account("third")
                assert (await who(late), await who(client)) == ("third", "first")
            (folder / "token").unlink()
            with pytest.raises(Unauthorized, match="cannot be read"):
                await who(eager)

    asyncio.run(main())


@pytest.mark.lab
def test_a_token_that_expires_meanwhile_is_replaced_by_what_the_kubelet_wrote(
    api_lab: ApiLab, cluster: Kubectl, account: Callable[[str], Path]
) -> None:
    folder = account("first")
    lasting = (folder / "token").read_text()

    async def main() -> None:
        (folder / "token").write_text(expiring(api_lab, cluster, "first", left_s=3.0 - LEEWAY_S))
        async with connect(in_cluster(folder, in_pod(api_lab))) as client:
            assert await who(client) == "first"
            # The server remembers for ten seconds whom it let in.
            with pytest.raises(Unauthorized):
                await refused(client, within_s=40.0)
            (folder / "token").write_text(lasting)
            assert await who(client) == "first"

    asyncio.run(main())


async def refused(client: Client, *, within_s: float) -> None:
    """Ask until the server says no."""
    async with asyncio.timeout(within_s):
        while await who(client):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.5)


LEEWAY_S = 60.0
"""A server lets a token in for so long after its end: clocks differ."""


def expiring(lab: ApiLab, cluster: Kubectl, name: str, *, left_s: float) -> str:
    """A token as the lab's own issuer would sign it, but short: the server gives none below 10 minutes."""
    account = cluster.json("get", "serviceaccount", name)["metadata"]
    now_s = time.time()
    claims = {
        "iss": "https://kubernetes.default.svc",
        "aud": ["https://kubernetes.default.svc"],
        "sub": f"system:serviceaccount:{cluster.namespace}:{name}",
        "iat": int(now_s - 2 * LEEWAY_S),
        "nbf": int(now_s - 2 * LEEWAY_S),
        "exp": int(now_s + left_s),
        "kubernetes.io": {
            "namespace": cluster.namespace,
            "serviceaccount": {"name": name, "uid": account["uid"]},
        },
    }
    parts = [_part(json.dumps(part).encode()) for part in ({"alg": "ES256"}, claims)]
    pem = (lab.folder / "pki" / "service-account.key").read_bytes()
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signed)
    return ".".join([*parts, _part(r.to_bytes(32, "big") + s.to_bytes(32, "big"))])


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.lab
def test_another_authority_is_not_believed(api_lab: ApiLab, account: Callable[[str], Path]) -> None:
    folder = account("first")
    Authority(folder, "ca", dt.datetime.now(dt.UTC))

    async def main() -> None:
        async with connect(in_cluster(folder, in_pod(api_lab))) as client:
            await who(client)

    with pytest.raises(ClusterAway, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(main())


def test_help_does_not_load_it() -> None:
    code = (
        "import sys\n"
        "from control_plane.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('kubernetes', 'aiohttp')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
