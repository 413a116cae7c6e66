"""The controller over an API server in memory and a simulated site, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from control_plane.api.objects import FleetRevisionSpec
from control_plane.core.cluster import Kind, NotFound, Object
from control_plane.core.ports import Bmc, Secrets
from control_plane.core.secret import Secret
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.edges import Edges
from control_plane.inventory.bundle import render
from control_plane.inventory.load import load, load_files
from control_plane.kube.controller import Controller
from control_plane.kube.declaration import Declared, read_revision
from control_plane.kube.events import EVENT
from control_plane.kube.kinds import FLEET_REVISION, MINER, RACK, SITE
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.kube.running import inline
from tests.stock import ROOT

FILES = dict(load(ROOT / "inventory", sites={"lab"}).files["lab"])
NAMESPACE = "power"
PASSWORDS = {"antminer_stock": "root", "whatsminer_v2": "admin"}
RACKS = "sites/lab/racks/lab.yaml"


class FactorySecrets:
    def resolve(self, ref: str) -> Secret:
        return Secret("root" if "ANTMINER" in ref else "admin")


async def read(name: str, spec: FleetRevisionSpec) -> Declared:
    return read_revision(name, spec)


@dataclass
class Playing:
    """A site, its API server, and a person with kubectl."""

    loop: VirtualLoop
    stage: Stage
    server: ApiServer
    folder: Path
    said: list[str] = field(default_factory=list)
    journal: Path | None = None
    secrets: Secrets = field(default_factory=FactorySecrets)
    bmc: Bmc | None = None

    def __post_init__(self) -> None:
        self.kubectl = ApiClient(self.server, self.stage.clock, manager="kubectl")

    def controller(self, name: str) -> tuple[Controller, ApiClient]:
        line = ApiClient(self.server, self.stage.clock, manager="gridplane")
        folder = self.folder / name
        folder.mkdir()

        def say(text: str, /, **_fields: object) -> None:
            self.said.append(f"{name}: {text}")

        controller = Controller(
            line,
            site="lab",
            namespace=NAMESPACE,
            identity=name,
            folder=folder,
            edges=Edges(
                clock=self.stage.clock,
                rng=self.stage.rng,
                secrets=self.secrets,
                drivers=make_drivers(self.stage.net, self.stage.clock),
                capabilities=all_capabilities(),
                bmc=self.bmc,
            ),
            say=say,
            read=read,
            aside=inline,
            journal=self.journal,
            node=f"host-of-{name}",
        )
        return controller, line

    async def declare(self, files: dict[str, bytes], **more: Any) -> str:
        """As Git would: the revision, and the pointer to it."""
        revision, site = render("lab", files, namespace=NAMESPACE, commit=None)
        site["spec"] |= more
        for kind, body in ((FLEET_REVISION, revision), (SITE, site)):
            await self.kubectl.apply(kind, body, manager="kubectl")
        return str(revision["metadata"]["name"])

    async def get(self, kind: Kind, name: str) -> Object | None:
        try:
            return await self.kubectl.get(kind, name, namespace=NAMESPACE)
        except NotFound:
            return None

    async def told(self, kind: Kind, name: str) -> dict[str, tuple[str, str, str]]:
        """Condition → (status, reason, message)."""
        found = await self.get(kind, name)
        status = msgspec.json.decode(found.status) if found else None
        return {
            c["type"]: (c["status"], c["reason"], c.get("message", ""))
            for c in (status or {}).get("conditions", ())
        }

    async def until(
        self, holds: Callable[[], Awaitable[object]], *, within_s: float = 300.0
    ) -> None:
        end = self.loop.time() + within_s
        while not await holds():
            assert self.loop.time() < end, f"it did not come to that; said: {self.said}"
            await asyncio.sleep(0.5)


def play(tmp_path: Path, act: Callable[[Playing], Awaitable[None]], *, scale: float = 1.0) -> None:
    async def main(loop: VirtualLoop) -> None:
        found = load_files(FILES, sites={"lab"}).fleet
        assert found is not None
        stage = set_stage(found.sites["lab"], loop, seed=5, scale=scale, passwords=PASSWORDS)
        await act(Playing(loop, stage, ApiServer(stage.clock), tmp_path))

    run_virtual(main, horizon_s=20_000.0)


def test_a_revision_that_is_pointed_to_is_accepted_and_shown(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        name = await playing.declare(FILES)

        async def is_shown() -> bool:
            return (await playing.told(SITE, "lab")).get("Ready", ("", ""))[1] == "TooFew"

        await playing.until(is_shown)
        revision = await playing.told(FLEET_REVISION, name)
        assert revision["Accepted"][0] == "True"
        site = await playing.get(SITE, "lab")
        assert site is not None
        status = msgspec.json.decode(site.status)
        assert status["acceptedRevision"] == name
        assert (await playing.told(SITE, "lab"))["Enforcing"][:2] == ("False", "ObserveOnly")

        async def has_every_miner() -> bool:
            if await playing.get(RACK, "lab-r1") is None:
                return False
            found = [await playing.told(MINER, f"lab-r1-s{n}") for n in range(1, 7)]
            return all(one.get("Ready", ("",))[0] != "" for one in found)

        await playing.until(has_every_miner)
        serving.cancel()
        assert playing.stage.site.world.ledger.select() == ()

    play(tmp_path, act)


def test_a_revision_with_findings_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        good = await playing.declare(FILES)

        async def is_accepted() -> bool:
            found = await playing.get(SITE, "lab")
            status: Any = msgspec.json.decode(found.status) if found else None
            return bool(status) and status.get("acceptedRevision") == good

        await playing.until(is_accepted)
        broken = {**FILES, RACKS: FILES[RACKS].replace(b"lab-hall-p1", b"lab-hall-p9")}
        bad = await playing.declare(broken)

        async def is_refused() -> bool:
            return "Stalled" in await playing.told(SITE, "lab")

        await playing.until(is_refused)
        status, reason, message = (await playing.told(SITE, "lab"))["Stalled"]
        assert (status, reason) == ("True", "NotAccepted")
        assert "lab-hall-p9" in message
        assert f"inventory/{RACKS}:" in message
        assert (await playing.told(FLEET_REVISION, bad))["Accepted"][0] == "False"
        assert await is_accepted()

        # And back: the same pointer as before is no new revision.
        await playing.declare(FILES)

        async def is_in_force() -> bool:
            return "Stalled" not in await playing.told(SITE, "lab")

        await playing.until(is_in_force)
        serving.cancel()

    play(tmp_path, act)


def test_a_revision_that_shrinks_the_site_waits_for_a_word(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        await playing.declare(FILES)

        async def is_shown() -> bool:
            return (await playing.get(RACK, "lab-r2")) is not None

        await playing.until(is_shown)
        text = FILES[RACKS].decode()
        halved = {**FILES, RACKS: text[: text.index("  - id: lab-r2")].encode()}
        smaller = await playing.declare(halved)

        async def is_refused() -> bool:
            return "6 managed devices are gone" in str(await playing.told(SITE, "lab"))

        await playing.until(is_refused)
        assert (await playing.get(RACK, "lab-r2")) is not None

        await playing.declare(halved, acknowledgements={"removals": 6})

        async def is_gone() -> bool:
            return (await playing.get(RACK, "lab-r2")) is None

        await playing.until(is_gone)

        async def is_in_force() -> bool:
            site = await playing.get(SITE, "lab")
            return site is not None and smaller in bytes(site.status).decode()

        await playing.until(is_in_force)
        serving.cancel()

    play(tmp_path, act)


def test_what_a_person_writes_into_a_projection_is_put_back(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        await playing.declare(FILES)

        async def is_shown() -> bool:
            return (await playing.get(MINER, "lab-r1-s1")) is not None

        await playing.until(is_shown)
        edited = {
            "apiVersion": MINER.api_version,
            "kind": "Miner",
            "metadata": {"name": "lab-r1-s1", "namespace": NAMESPACE},
            "spec": {"slot": 5},
        }
        await playing.kubectl.apply(MINER, edited, manager="somebody")

        async def is_back() -> bool:
            found = await playing.get(MINER, "lab-r1-s1")
            return found is not None and msgspec.json.decode(found.spec)["slot"] == 1

        assert not await is_back()
        await playing.until(is_back)
        assert any("Miner lab-r1-s1: its spec was edited" in text for text in playing.said)
        assert sum("was edited" in text for text in playing.said) == 1
        serving.cancel()

    play(tmp_path, act)


def test_another_process_takes_over_when_the_leader_is_cut_off(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        serving = [asyncio.ensure_future(one.run())]
        await playing.declare(FILES)

        async def one_leads() -> bool:
            return one.elector.is_live()

        await playing.until(one_leads)
        two, _ = playing.controller("two")
        serving.append(asyncio.ensure_future(two.run()))
        await asyncio.sleep(30)
        assert not two.elector.is_live()

        line.faults.away = "refused"
        line.cut()

        async def two_leads() -> bool:
            assert not (one.elector.is_live() and two.elector.is_live())
            return two.elector.is_live()

        await playing.until(two_leads, within_s=30.0)

        async def two_serves() -> bool:
            return any(text.startswith("two: goes on with revision") for text in playing.said)

        await playing.until(two_serves)
        await asyncio.sleep(150)
        assert (one.is_fresh, two.is_fresh) == (False, True)
        for task in serving:
            task.cancel()

    play(tmp_path, act)


def test_a_new_leader_keeps_what_was_accepted_whatever_is_pointed_to(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, _ = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        good = await playing.declare(FILES)

        async def has(words: str) -> bool:
            site = await playing.get(SITE, "lab")
            return site is not None and words in bytes(site.status).decode()

        await playing.until(lambda: has(good))
        await playing.declare({**FILES, "fleet.yaml": b"nonsense: 1"})
        await playing.until(lambda: has("NotAccepted"))
        serving.cancel()
        await asyncio.wait([serving])

        two, _ = playing.controller("two")
        serving = asyncio.ensure_future(two.run())

        async def two_has_it() -> bool:
            return any(text.startswith("two: goes on with revision") for text in playing.said)

        await playing.until(two_has_it)
        await asyncio.sleep(60)
        assert await has(good)
        assert await has("NotAccepted")
        serving.cancel()

    play(tmp_path, act)


def test_who_leads_measures_and_tells_who_follows_says_so(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        told: list[tuple[str, str]] = []
        create = line.create

        async def record(kind: Kind, body: Any) -> Object:
            if kind is EVENT:
                told.append((f"{body['regarding']['kind']}/{body['reason']}", body["note"]))
            return await create(kind, body)

        line.create = record  # type: ignore[method-assign]
        serving = [asyncio.ensure_future(one.run())]
        assert b'gridplane_ready{site="lab"} 0\n' in one.facts.text()
        await playing.declare(FILES)

        async def is_seen() -> bool:
            return b'state="untrusted"} 12\n' in one.facts.text()

        await playing.until(is_seen)
        two, _ = playing.controller("two")
        serving.append(asyncio.ensure_future(two.run()))
        await asyncio.sleep(60)
        leads, follows = one.facts.text().decode(), two.facts.text().decode()
        for line_ in (
            'gridplane_ready{site="lab"} 1', 'gridplane_leader{site="lab"} 1',
            'gridplane_gate_open{site="lab"} 0', 'gridplane_tenures_total{site="lab"} 1',
            'gridplane_state_failing{site="lab"} 0', 'gridplane_state_parts_behind{site="lab"} 0',
            'gridplane_cache_objects{site="lab",kind="miners"} 12',
            'gridplane_api_requests_total{site="lab",verb="apply",kind="racks",result="ok"}',
            'gridplane_device_looks_total{site="lab",result="seen"}',
            'gridplane_power_usable_watts{site="lab",feed="lab-hall-p1"}',
            'gridplane_operations_open{site="lab",stage="sent"} 0',
        ):  # fmt: skip
            assert line_ in leads
        assert 'gridplane_leader{site="lab"} 0' in follows
        assert 'gridplane_ready{site="lab"} 1' in follows
        assert "gridplane_devices" not in follows
        assert (one.facts.store() is None, two.facts.store() is None) == (False, True)

        kinds = [kind for kind, _ in told]
        assert kinds.count("Site/RevisionAccepted") == 1
        assert kinds.count("Rack/Untrusted") == 2
        assert all(note.startswith("6 miners: ") for kind, note in told if kind == "Rack/Untrusted")
        for task in serving:
            task.cancel()

    play(tmp_path, act)
