"""Rotations without a cluster, in virtual time: let go by a person, in rounds, killed at every step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from control_plane.core.errors import DeclarationError
from control_plane.core.findings import Finding, SourceRef
from control_plane.core.fleet import Credentials, Device, Site, SlotState, Strategy
from control_plane.core.ports import Driver, Secrets
from control_plane.core.rotation import Fault as Failure
from control_plane.core.rotation import RotationEntry, RotationStep, Subject
from control_plane.core.rotation_rollout import Rotation, RotationState, opened
from control_plane.core.secret import Secret
from control_plane.engine.audit import AuditFile
from control_plane.engine.records import Order, OrderKind
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.network import Trouble
from control_plane.simulator.site import Target as Where
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.engine import running as running_
from tests.engine.lives import Killed, a_life
from tests.engine.running import HORIZON_S, PASSWORDS, KnownSecrets, Running, on_site, small_site
from tests.simulator.floors import S19_VNISH, a_rack_of

FAMILY = "antminer_stock"
OLD, NEW = f"env:{FAMILY}", "env:new"
SECRET = "n3w_pass"
Play = Callable[[Running], Awaitable[None]]


class Host(KnownSecrets):
    """A host on which references may lead nowhere."""

    def resolve(self, ref: str) -> Secret:
        if ref not in self.known:
            told = Finding(code="E0790", where=SourceRef(ref), what="it is not set", fix="set it")
            raise DeclarationError([told])
        return super().resolve(ref)


def secrets() -> KnownSecrets:
    known = Host()
    known.known[NEW] = SECRET
    return known


def with_credentials(given: Credentials, family: str = FAMILY) -> Site:
    """The small site, the machines of one family with these credentials."""

    def declare(device: Device) -> Device:
        intent = device.intent
        if intent.family == family:
            intent = msgspec.structs.replace(intent, credentials=given)
        return msgspec.structs.replace(device, intent=intent)

    site = small_site()
    return msgspec.structs.replace(
        site,
        devices=tuple(declare(d) for d in site.devices),
        strategy=Strategy(cohorts=(1, 2), max_new_failure_share=0.05),
    )


def rotated(family: str = FAMILY, old: str = OLD) -> Site:
    return with_credentials(
        Credentials(user="root", secret_ref=NEW, previous=(old,)), family=family
    )


def play_rotation(
    play: Play, folder: Path, *, site: Site | None = None, known: KnownSecrets | None = None
) -> None:
    on_site(
        play,
        folder,
        found=small_site(),
        declared=site or rotated(),
        secrets=known or secrets(),
        rotates=True,
    )


def machines(stage: Stage, family: str = FAMILY) -> dict[str, str]:
    """Which password is in force on each machine."""
    return {
        asset: stage.site.machine(asset).password
        for asset in stage.site.stations
        if stage.site.machine(asset).model.family == family
    }


def rotation(store: Store) -> Rotation | None:
    found = [r for r in store.rotations() if r.is_declared]
    return found[-1] if found else None


def entries(store: Store) -> list[RotationEntry]:
    return store.rotating(Subject.PASSWORD)


def stands(store: Store, state: RotationState, needle: str = "") -> bool:
    now = rotation(store)
    return now is not None and now.state is state and needle in now.detail


def let_go(store: Store, *, through: int | None = None) -> None:
    now = rotation(store)
    assert now is not None
    order = Order(kind=OrderKind.CREDENTIALS, target=now.id, by="ann", through=through, at_s=0.0)
    store.put_order(order)


def test_each_wave_waits_for_a_person_and_then_changes(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        await asyncio.sleep(600.0)
        assert set(machines(running.stage).values()) == {PASSWORDS[FAMILY]}
        # Looks and writes go on with the one before.
        assert all(slot.unseen is None for slot in running.engine.slots.values())
        let_go(store)
        await running.until(lambda: stands(store, RotationState.WAITING, "wave 2"))
        assert sorted(machines(running.stage).values()) == [SECRET, *["root"] * 3]
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert set(machines(running.stage).values()) == {SECRET}
        now = rotation(store)
        assert now is not None
        assert (now.failed, now.round, now.rounds) == ((), (), 3)
        assert {e.verified for e in entries(store)} == {NEW}
        assert {m.login for a, m in store.memories().items() if a in machines(running.stage)} == {
            NEW
        }
        await running.until(
            lambda: all(s.decision and s.decision.converged for s in running.engine.slots.values())
        )

    play_rotation(play, tmp_path)
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes(), file.name


def test_whatsminers_whose_looks_need_no_password_are_changed_too(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store, family = running.other, "whatsminer_v2"
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert set(machines(running.stage, family).values()) == {SECRET}
        assert {slot.secret_ref for slot in running.engine.slots.values()} == {NEW, OLD}

    play_rotation(play, tmp_path, site=rotated("whatsminer_v2", "env:whatsminer_v2"))


def test_a_vnish_whose_sessions_end_with_the_password_is_changed_too(tmp_path: Path) -> None:
    def rack(given: Credentials) -> Site:
        site = a_rack_of(S19_VNISH, slots=2, credentials=given, firmware="1.3.3")
        return msgspec.structs.replace(
            site, strategy=Strategy(cohorts=(1,), max_new_failure_share=0.05)
        )

    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert set(machines(running.stage, "vnish").values()) == {SECRET}
        slots = running.engine.slots.values()
        await running.until(lambda: all(s.unseen is None and not s.locked for s in slots))

    old = Credentials(user="admin", secret_ref="env:vnish")
    new = Credentials(user="admin", secret_ref=NEW, previous=("env:vnish",))
    on_site(play, tmp_path, found=rack(old), declared=rack(new), secrets=secrets(), rotates=True)


def test_a_machine_that_goes_silent_in_its_round_keeps_nobody_waiting_for_good(
    tmp_path: Path,
) -> None:
    async def play(running: Running) -> None:
        store, stations = running.other, running.stage.site.stations
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.ROTATING))
        now = rotation(store)
        assert now is not None
        (dead,) = now.round
        stations[dead].trouble = Trouble.BLACK_HOLE
        assert running.stage.site.machine(dead).password == "root"
        others = machines(running.stage).keys() - {dead}
        await running.until(
            lambda: all(machines(running.stage)[asset] == SECRET for asset in others)
        )
        stations[dead].trouble = None
        await running.until(lambda: stands(store, RotationState.DONE))
        assert set(machines(running.stage).values()) == {SECRET}

    play_rotation(play, tmp_path)


def test_a_machine_that_is_taken_out_of_service_in_its_round_is_gone_on_with_later(
    tmp_path: Path,
) -> None:
    def out(asset: str) -> Site:
        site = rotated()
        devices = (
            msgspec.structs.replace(d, state=SlotState.OUT_OF_SERVICE) if d.asset == asset else d
            for d in site.devices
        )
        return msgspec.structs.replace(site, devices=tuple(devices))

    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        for asset in machines(running.stage):
            hit(running.stage, asset, FaultKind.SLOW_PASSWORD)
        let_go(store, through=9)
        await running.until(lambda: any(e.step is RotationStep.VERIFYING for e in entries(store)))
        (entry,) = entries(store)
        running_._accept(
            store,
            AuditFile(tmp_path / "audit.jsonl", store),
            running.engine._revisions,
            out(entry.asset),
            running.stage.clock.wall_s(),
            removals=1,
        )
        await running.until(lambda: entry.asset not in running.engine.slots)
        await running.until(lambda: stands(store, RotationState.DONE))
        running.declare(rotated())
        await running.until(lambda: stands(store, RotationState.DONE), within_s=9_000.0)
        await running.until(lambda: set(machines(running.stage).values()) == {SECRET})
        await running.until(lambda: {e.step for e in entries(store)} == {RotationStep.DONE})

    play_rotation(play, tmp_path)


def test_a_backup_that_has_a_round_without_its_machines_goes_on_by_logins(tmp_path: Path) -> None:
    """The restored Store knows less than the machines."""

    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        now = rotation(store)
        assert now is not None
        chosen = tuple(machines(running.stage))
        running.stage.site.machine(chosen[0]).password = SECRET
        open_ = opened(now, chosen, wave=0, now_s=running.stage.clock.wall_s())
        passwords, _ = running.engine._rotating
        passwords.rotations[now.id] = open_
        store.put_rotation(open_)
        await running.until(lambda: len(entries(store)) == len(chosen))
        await running.until(lambda: all(e.step is RotationStep.DONE for e in entries(store)))
        assert set(machines(running.stage).values()) == {SECRET}
        assert not running.writes(chosen[0])

    play_rotation(play, tmp_path)


def test_a_whatsminer_that_takes_no_writes_is_left_for_later(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store, family = running.other, "whatsminer_v2"
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        shut = min(machines(running.stage, family))
        hit(running.stage, shut, FaultKind.WRITES_OFF)
        let_go(store, through=9)
        others = machines(running.stage, family).keys() - {shut}
        await running.until(
            lambda: all(machines(running.stage, family)[asset] == SECRET for asset in others),
            within_s=6_000.0,
        )
        assert machines(running.stage, family)[shut] == "admin"
        await running.until(lambda: stands(store, RotationState.WAITING, shut))
        assert not stands(store, RotationState.HALTED)

    play_rotation(play, tmp_path, site=rotated("whatsminer_v2", "env:whatsminer_v2"))


def test_a_family_without_a_password_says_what_to_do(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        await running.until(
            lambda: stands(store, RotationState.WAITING, "take `previous` out of the profile")
        )
        let_go(store, through=9)
        await asyncio.sleep(300.0)
        assert entries(store) == []

    def without_ways(_family: str, driver: Driver) -> Driver:
        class Bare:
            capabilities = msgspec.structs.replace(driver.capabilities, passwords=None)

            def __getattr__(self, name: str) -> object:
                return getattr(driver, name)

        return Bare()  # type: ignore[return-value]

    on_site(
        play,
        tmp_path,
        found=small_site(),
        declared=rotated(),
        secrets=secrets(),
        wrap=without_ways,
        rotates=True,
    )


def test_a_hold_wins_and_is_asked_once_more_before_the_change_leaves(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        running.hold(running.engine.site.id)
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.WAITING, "not fit"))
        await asyncio.sleep(900.0)
        assert set(machines(running.stage).values()) == {"root"}
        store.drop_overlay("h1")
        await running.until(lambda: stands(store, RotationState.DONE))
        assert set(machines(running.stage).values()) == {SECRET}

    play_rotation(play, tmp_path)


def test_a_machine_that_ignores_it_stops_all_and_a_person_lets_it_go_on(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        for asset in machines(running.stage):
            hit(running.stage, asset, FaultKind.DISOBEY)
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.HALTED))
        (entry,) = [e for e in entries(store) if e.step is RotationStep.FAILED]
        assert (entry.fault, entry.verified) == (Failure.NOT_TAKEN, OLD)
        assert any(Failure.NOT_TAKEN in page for page in running.engine.journal.pages)
        assert all(slot.unseen is None for slot in running.engine.slots.values())
        for asset in machines(running.stage):
            running.stage.site.machine(asset).obeys = True
        let_go(store)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert set(machines(running.stage).values()) == {SECRET}

    play_rotation(play, tmp_path)


def test_a_machine_of_which_no_password_is_declared_is_named(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        for asset in machines(running.stage):
            hit(running.stage, asset, FaultKind.PASSWORD)
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.HALTED))
        (entry,) = [e for e in entries(store) if e.step is RotationStep.FAILED]
        assert entry.fault is Failure.NONE_LOGS_IN
        assert "nothing was sent" in entry.detail

    play_rotation(play, tmp_path)


def test_a_machine_that_has_the_new_one_is_found_by_looks_and_gets_nothing(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        for asset in machines(running.stage):
            running.stage.site.machine(asset).password = SECRET
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        slots = [running.engine.slots[asset] for asset in machines(running.stage)]
        await running.until(lambda: all(s.login == NEW and s.unseen is None for s in slots))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert {e.detail for e in entries(store)} == {"it had it already"}
        assert not [w for a in machines(running.stage) for w in running.writes(a)]

    play_rotation(play, tmp_path)


def test_nothing_begins_while_a_reference_leads_nowhere(tmp_path: Path) -> None:
    known = secrets()
    del known.known[NEW]

    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, f"{NEW} leads nowhere"))
        let_go(store, through=9)
        await asyncio.sleep(600.0)
        assert set(machines(running.stage).values()) == {"root"}
        known.known[NEW] = SECRET
        await running.until(lambda: stands(store, RotationState.DONE))

    play_rotation(play, tmp_path, known=known)


def test_a_rotation_that_is_not_declared_any_more_is_behind(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        running.declare(with_credentials(Credentials(user="root", secret_ref=OLD)))
        await running.until(lambda: rotation(store) is None)
        assert set(machines(running.stage).values()) == {"root"}
        await asyncio.sleep(300.0)
        assert all(slot.unseen is None for slot in running.engine.slots.values())

    play_rotation(play, tmp_path)


def test_previous_that_is_taken_out_too_early_locks_nobody_out(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        for asset in machines(running.stage):
            hit(running.stage, asset, FaultKind.DISOBEY)
        let_go(store)
        await running.until(lambda: stands(store, RotationState.HALTED))
        (entry,) = entries(store)
        alone = Credentials(user="root", secret_ref=NEW)
        running.declare(with_credentials(alone))
        slot = running.engine.slots[entry.asset]
        await running.until(lambda: slot.device.intent.credentials == alone, within_s=9_000.0)
        await running.until(lambda: slot.login == OLD and slot.unseen is None)

    play_rotation(play, tmp_path)


def test_a_reference_that_is_gone_by_now_is_not_tried_for_ever(tmp_path: Path) -> None:
    known = secrets()

    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        del known.known[OLD]
        asset = min(machines(running.stage))
        slot, machine = running.engine.slots[asset], running.stage.site.machine(asset)
        machine.password = "another"
        await running.until(lambda: slot.unseen is not None and slot.login == OLD)
        machine.password = SECRET
        await running.until(lambda: slot.unseen is None and slot.secret_ref == NEW)

    play_rotation(play, tmp_path, known=known)


# -- killed at every step ---------------------------------------------------------------------------------


def hit(stage: Stage, asset: str, kind: FaultKind) -> None:
    inject(stage.site, Fault(kind=kind, target=Where(asset=asset)))


async def live_on(
    stage: Stage, path: Path, lives: Sequence[int], site: Site, known: Secrets, *, within_s: float
) -> AsyncIterator[None]:
    """One process after another, each to where it dies, the last to the end; a person lets all go on."""
    loop, said = asyncio.get_running_loop(), False
    with contextlib.closing(Store(path)) as first:
        for left in (*lives, 10_000):
            engine = a_life(stage, path, left, site, known)
            task = asyncio.ensure_future(engine.run())
            end = loop.time() + within_s
            while not task.done() and loop.time() < end:
                await asyncio.sleep(0.2)
                if not said and stands(first, RotationState.WAITING, "lets it go"):
                    let_go(first, through=9)
                    said = True
                if stands(first, RotationState.HALTED):
                    let_go(first, through=9)
                if stands(first, RotationState.DONE):
                    break
            if not task.done():
                engine.stop()
            with contextlib.suppress(Killed):
                await task
            yield


@pytest.mark.parametrize(
    ("lives", "kind"),
    [
        *(((n,), None) for n in range(1, 6)),
        *(((n,), FaultKind.MUTE_PASSWORD) for n in range(3, 6)),
        *(((n,), FaultKind.SLOW_PASSWORD) for n in range(3, 6)),
        ((0,), None),
        ((0, 0), FaultKind.SLOW_PASSWORD),
        ((0, 1), FaultKind.MUTE_PASSWORD),
        ((1,) * 8, None),
        ((3, 1, 1), FaultKind.MUTE_PASSWORD),
    ],
    ids=str,
)
def test_nobody_is_locked_out_wherever_the_process_dies(
    tmp_path: Path, lives: tuple[int, ...], kind: FaultKind | None
) -> None:
    site, path = rotated(), tmp_path / "state.sqlite"

    async def main(loop: VirtualLoop) -> None:
        stage = set_stage(small_site(), loop, seed=5, passwords=PASSWORDS)
        first = Store(path)
        revisions = Revisions(first, site.id)
        running_._accept(first, AuditFile(tmp_path / "audit.jsonl"), revisions, site, 0.0)
        for asset in machines(stage):
            if kind is not None:
                hit(stage, asset, kind)
        async for _ in live_on(stage, path, lives, site, secrets(), within_s=3_000.0):
            known = secrets().known
            steps = {entry.asset: entry for entry in entries(first)}
            for asset, password in machines(stage).items():
                names = {ref for ref in _told(steps.get(asset)) if known[ref] == password}
                assert names, f"{asset} is locked out: {steps.get(asset)}"
        assert stands(first, RotationState.DONE), rotation(first)
        assert set(machines(stage).values()) == {SECRET}
        sent = [w for a in machines(stage) for w in stage.site.world.ledger.select(asset=a)]
        assert {w.kind for w in sent} == {"passwd"}

    run_virtual(main, horizon_s=10 * HORIZON_S)


def _told(entry: RotationEntry | None) -> set[str]:
    """References that whoever takes over tries, going by the journal and the declaration."""
    kept = {entry.wanted, entry.before, entry.verified} if entry else set()
    return {ref for ref in (OLD, NEW, *kept) if ref is not None}
