"""`hold`, `freeze`, `release` against a cluster, and into a journal; a leader answers, or nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.reading import Source
from control_plane.core.cluster import Cluster as Port
from control_plane.core.overlay import Overlay
from control_plane.engine import said
from control_plane.engine.adapters import SystemClock
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube import asking
from control_plane.kube.kinds import OVERLAY
from control_plane.kube.reading import Copy, NotRead
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from tests.kube.running import Around
from tests.kube.speaking import Cluster, Process
from tests.stock import ROOT

WORDS = ("--site", "lab", "--inventory", str(ROOT / "inventory"), "--by", "ann")


class Far:
    """A cluster in this process that lives while somebody is connected to it."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        server = ApiServer(clock, collects=False)
        around = Around(loop=None, clock=clock, server=server, client=ApiClient(server, clock))  # type: ignore[arg-type]
        self.cluster = Cluster(around)
        self.leads = True
        self.overlays: tuple[Overlay, ...] = ()
        self.events: tuple[Event, ...] = ()
        self.options = ("--kubeconfig", str(folder / "kubeconfig"), "--namespace", "site", *WORDS)
        (folder / "kubeconfig").write_text("{}")
        self._copy = folder / "copy.sqlite"

    @contextlib.asynccontextmanager
    async def connect(self, _credentials: object) -> AsyncIterator[Port]:
        """As the real one does."""
        process = Process(self.cluster)
        if self.leads:
            process.start()
        yield self.cluster.kubectl
        if self.leads:
            await process.durable()
            self.overlays = process.store.overlays()
            await process.end()
            await asyncio.sleep(0)

    def fetched(self, _source: Source) -> Copy:
        """A copy of the leader's Store."""
        if not self.leads:
            raise NotRead("nobody leads lab at this moment")
        self._copy.unlink(missing_ok=True)
        store = Store(self._copy)
        for overlay in self.overlays:
            store.put_overlay(overlay)
        store.put_remedies(self.cluster.remedies)
        store.put_remedy_site(self.cluster.together)
        store.put_events(self.events)
        store.close()
        packed = gzip.compress(self._copy.read_bytes())
        return Copy(site="lab", leads=True, of="one", store=packed)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Far:
    far = Far(tmp_path)
    monkeypatch.setattr("control_plane.kube.client.connect", far.connect)
    monkeypatch.setattr("control_plane.kube.client.kubeconfig", lambda path: path)
    monkeypatch.setattr("control_plane.cli.reading._fetched", far.fetched)
    monkeypatch.setattr(asking, "WAIT_S", 3.0)
    monkeypatch.delenv("GRIDPLANE_STATE", raising=False)
    return far


def test_a_hold_is_told_once_the_leader_goes_by_it_and_its_owner_ends_it(
    far: Far, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = ("hold", "lab-r1", "--kind", "safety", "--reason", "PDU", "-o", "json", *far.options)
    assert main(hold) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    (overlay,) = far.overlays
    assert (overlay.id, overlay.node, len(overlay.assets)) == (told["overlay"]["id"], "lab-r1", 6)
    assert told["under_way"] == []
    assert told["release"].endswith("--namespace site")

    others = [word if word != "ann" else "bob" for word in far.options]
    assert main(("release", overlay.id, *others)) == Exit.REFUSED
    assert "only ann releases it" in capsys.readouterr().err
    assert main(("release", "lab-r1", *far.options)) == Exit.OK
    assert f"{overlay.id}: safety on lab-r1 released" in capsys.readouterr().out
    assert far.overlays == ()
    assert far.cluster.names(OVERLAY) == set()


def test_a_freeze_of_the_whole_site(far: Far, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("freeze", "--reason", "grid", "--ttl", "6h", *far.options)) == Exit.OK
    assert "lab is frozen, 14 slots, in force now" in capsys.readouterr().out
    (overlay,) = far.overlays
    assert (overlay.kind, overlay.node) == ("freeze", "lab")
    assert overlay.expires_s == overlay.since_s + 6 * 3_600


def test_a_typing_error_protects_nobody(far: Far, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("hold", "lab-r9", "--kind", "safety", "--reason", "PDU", *far.options)
    assert main(words) == Exit.USAGE
    assert "Did you mean lab-r" in capsys.readouterr().err
    assert far.cluster.names(OVERLAY) == set()


def test_where_nobody_leads_the_hold_is_said_and_not_claimed(
    far: Far, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    far.leads = False
    monkeypatch.setattr(asking, "WAIT_S", 1.0)
    words = ("hold", "lab-r1", "--kind", "safety", "--reason", "PDU", *far.options)
    assert main(words) == Exit.STATE
    told = capsys.readouterr()
    assert told.out == ""
    assert "nobody leads lab" in told.err
    assert "NOT KNOWN to be in force" in told.err
    assert len(far.cluster.names(OVERLAY)) == 1, "the next leader goes by it"
    assert main(("release", "lab-r1", *far.options)) == Exit.REFUSED


def test_with_the_api_server_away_nothing_is_claimed_either(
    far: Far, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    far.leads = False
    far.cluster.kubectl.faults.away = "refused"
    monkeypatch.setattr(asking, "WAIT_S", 1.0)
    words = ("hold", "lab-r1", "--kind", "safety", "--reason", "PDU", *far.options)
    assert main(words) == Exit.STATE
    assert "NOT SAID, and not in force" in (told := capsys.readouterr().err)
    assert "--journal FOLDER" in told


def test_into_the_journal_of_this_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("hold", "lab-r1", "--kind", "safety", "--reason", "PDU", *WORDS)
    assert main((*words, "--journal", str(tmp_path))) == Exit.OK
    told = capsys.readouterr().out
    assert "in force at the controllers of this host at once, at others once" in told
    assert "writes that had left before it came are not known here" in told
    (overlay,) = said.pending(tmp_path, "lab", node="x", now_s=0.0)
    assert (overlay.kind, overlay.node, len(overlay.assets)) == ("safety", "lab-r1", 6)
    assert overlay.id in told


def test_a_journal_that_cannot_be_written_is_no_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("freeze", "--reason", "grid", *WORDS, "--journal", str(tmp_path / "not there"))
    assert main(words) == Exit.STATE
    told = capsys.readouterr()
    assert (told.out, "NOT in force" in told.err) == ("", True)


def test_two_places_are_one_too_many(far: Far, tmp_path: Path) -> None:
    words = ("freeze", "--reason", "grid", *far.options, "--journal", str(tmp_path))
    assert main(words) == Exit.USAGE
