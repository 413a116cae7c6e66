"""`get`, `status` and `explain` of a controller: through its cluster's API server, or from the process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiohttp import web

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace, load_declared
from control_plane.engine.records import Event, RevisionRecord
from control_plane.kube.serving import application

SITE = "first-site"
NAMESPACE = "power"
POD = "gridplane-controller-7d9f-x2x"


class Api:
    """An API server that knows one Lease, one Site and one pod, and the pod behind it; on real sockets."""

    def __init__(self, store: Path) -> None:
        self.lease: dict[str, Any] | None = {
            "holderIdentity": f"{POD}-a1b2c3",
            "renewTime": "2026-01-02T03:04:05.000000Z",
        }
        self.sites = [SITE]
        self.status: dict[str, Any] | None = None
        self.refusal: tuple[int, str] | None = None
        self.leads = True
        self.asked: list[str] = []
        self.facts = SimpleNamespace(
            site=SITE,
            elector=SimpleNamespace(is_live=lambda: self.leads, holder="other-1"),
            trouble=lambda: "",
            text=lambda: b"",
            store=lambda: store,
        )
        self.port = self.own_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        facts: Any = self.facts
        pod, api = application(facts), web.Application()
        of_store = next(r.handler for r in pod.router.routes() if r.resource.canonical == "/store")  # type: ignore[union-attr]

        async def proxied(request: web.Request) -> web.StreamResponse:
            self.asked.append(request.path)
            if self.refusal is not None:
                return self._said(*self.refusal)
            answer = await of_store(request)
            assert isinstance(answer, web.StreamResponse)
            return answer

        async def lease(_request: web.Request) -> web.Response:
            if self.lease is None:
                return self._said(404, "NotFound")
            return web.json_response({"metadata": {"name": "l"}, "spec": self.lease})

        async def site(_request: web.Request) -> web.Response:
            return web.json_response(self._site(SITE))

        async def all_sites(_request: web.Request) -> web.Response:
            items = [self._site(name) for name in self.sites]
            return web.json_response({"metadata": {"resourceVersion": "5"}, "items": items})

        ours = f"/apis/gridplane.dev/v1alpha1/namespaces/{NAMESPACE}/sites"
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
        api.router.add_get(f"{leases}/gridplane-{SITE}", lease)
        api.router.add_get(ours, all_sites)
        api.router.add_get(f"{ours}/{SITE}", site)
        api.router.add_get(f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}/proxy/store", proxied)
        self._runners = [web.AppRunner(app, access_log=None) for app in (api, pod)]
        ports = []
        for runner in self._runners:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            ports.append(runner.addresses[0][1])
        self.port, self.own_port = ports

    async def _end(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    def _site(self, name: str) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "namespace": NAMESPACE, "resourceVersion": "5"},
            "spec": {"revision": "a" * 64},
            "status": self.status,
        }

    def _said(self, code: int, reason: str) -> web.Response:
        said = {"kind": "Status", "message": "because", "reason": reason, "code": code}
        return web.json_response(said, status=code)


@pytest.fixture
def state(home: Path) -> Path:
    """The Store of a controller, which has accepted the inventory."""
    declared = load_declared(home / "inventory", SITE)
    folder = home / "state"
    store = Workplace(site=SITE, state=folder, creates=True).store
    record = RevisionRecord(
        digest=declared.digest, seq=1, commit="abc", accepted_at_s=1.0, accepted_by="Site power/x",
        plan_digest=declared.digest,
    )  # fmt: skip
    store.put_revision(record, declared.files)
    store.put_events([Event(at_s=1.0, kind="page", text="look at it", asset="r01-s1")])
    return folder


@pytest.fixture
def api(state: Path, home: Path) -> Iterator[Api]:
    server = Api(state / "state.sqlite")
    server.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [
            {"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": NAMESPACE}}
        ],
        "clusters": [{"name": "lab", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }
    (home / "kubeconfig").write_text(yaml.safe_dump(config))
    yield server
    server.stop()


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == Exit.OK, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(words))
    assert code != Exit.OK
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("get", "devices"),
        ("get", "events", "r01-s1"),
        ("get", "revisions", "-o", "json"),
        ("explain", "r01-s1"),
    ],
)
def test_the_output_is_that_of_a_state_folder(
    words: tuple[str, ...], state: Path, api: Api, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = said(capsys, *words, "--state", str(state), "--site", SITE)
    # What is read needs no inventory beside it.
    (home / "inventory").rename(home / "elsewhere")
    assert said(capsys, *words, "--kubeconfig", "kubeconfig") == local
    assert said(capsys, *words, "--server", f"http://127.0.0.1:{api.own_port}") == local


def test_the_leader_is_asked_and_no_other(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "status", "--kubeconfig", "kubeconfig", "--namespace", NAMESPACE, "--site", SITE)
    assert api.asked == [f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}/proxy/store"]


def test_who_has_lost_the_lease_says_that_it_may_be_old(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.leads = False
    assert main(["status", "--server", f"http://127.0.0.1:{api.own_port}/"]) == Exit.OK
    assert f"does not lead {SITE}: what it has may be old" in capsys.readouterr().err


def test_without_a_pod_the_status_of_the_site_is_said(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.status = {
        "progress": "11/12",
        "acceptedRevision": "b" * 64,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "AsDeclared",
                "message": "11 of 12 as declared",
                "lastTransitionTime": "2026-01-02T03:00:00Z",
                "observedGeneration": 1,
            }
        ],
        "observedGeneration": 1,
        "holds": 2,
    }
    api.refusal = (503, "ServiceUnavailable")
    code, err = refused(capsys, "status", "--kubeconfig", "kubeconfig")
    assert code == Exit.REFUSED
    assert f"the leader of {SITE}, {POD}, gives no copy: 503" in err
    assert "last heard at 2026-01-02T03:04:05" in err
    assert "11/12 as declared; revision bbbbbbbbbbbb; Ready True AsDeclared" in err
    assert "2 holds, 0 incidents" in err
    assert "kubectl -n power get pods" in err

    api.refusal = (403, "Forbidden")
    assert "gridplane-reader" in refused(capsys, "status", "--kubeconfig", "kubeconfig")[1]

    api.lease = {"holderIdentity": None}
    assert "nobody leads" in refused(capsys, "status", "--kubeconfig", "kubeconfig")[1]
    api.lease = None
    assert "ever led" in refused(capsys, "status", "--kubeconfig", "kubeconfig")[1]


def test_with_the_api_server_away_the_way_around_it_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "x", "user": {}}],
    }
    (home / "gone").write_text(json.dumps(config))
    code, err = refused(capsys, "get", "devices", "--kubeconfig", "gone")
    assert code == Exit.REFUSED
    assert "the API server does not answer" in err
    assert "--server http://" in err


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8080", "http://"])
def test_what_is_no_url_is_refused(
    url: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no URL of a controller" in refused(capsys, "status", "--server", url)[1]


def test_nobody_at_the_url(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, "status", "--server", "http://127.0.0.1:9")[1]
    assert "no controller answers at http://127.0.0.1:9" in err


def test_another_site_than_the_one_that_was_asked_for(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{api.own_port}"
    code, err = refused(capsys, "status", "--server", url, "--site", "ga-macon")
    assert (code, "serves first-site, not ga-macon" in err) == (Exit.USAGE, True)


def test_several_sites_have_to_be_told_apart(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.sites = ["b-site", "a-site"]
    err = refused(capsys, "status", "--kubeconfig", "kubeconfig")[1]
    assert "--site NAME (namespace power has: a-site, b-site)" in err


def test_two_places_are_one_too_many(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("status", "--kubeconfig", "kubeconfig", "--server", "http://x:1")
    assert refused(capsys, *words)[0] == Exit.USAGE


@pytest.mark.parametrize("cut", [0, 10, 500])
def test_a_copy_that_is_cut_short_is_not_read(
    cut: int, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from control_plane.kube import serving

    whole = serving.copied
    monkeypatch.setattr(serving, "copied", lambda path: whole(path)[:cut])
    code, err = refused(capsys, "status", "--server", f"http://127.0.0.1:{api.own_port}")
    assert (code, "cut short" in err) == (Exit.REFUSED, True)
