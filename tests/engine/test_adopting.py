"""What an engine takes over that another process left open."""

from __future__ import annotations

from control_plane.core.change import ChangeKind, SetPools, SetPowerMode
from control_plane.core.observation import Settings
from control_plane.core.rollout import Rollout
from control_plane.core.verify import Operation, Stage
from control_plane.engine.edges import Edges
from control_plane.engine.loop import Engine
from control_plane.engine.records import RevisionRecord
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.simulator.virtual import seeded
from tests.core.builders import CAPABILITIES, DECLARED_POOLS, NOW_S, device, settings, site
from tests.engine.running import KnownSecrets
from tests.engine.test_reconciler import Machine
from tests.engine.test_rollouts import StillClock

SITE = site((device("d1", address="10.0.0.2"),))


def operation(number: int, change: SetPools | SetPowerMode, stage: Stage) -> Operation:
    return Operation(
        id=f"000001-{number:09d}",
        asset="d1",
        change=change,
        before=Settings(),
        after=Settings(),
        sent_at_s=NOW_S + number,
        cost=CAPABILITIES.writes[ChangeKind.SET_POOLS],
        stage=stage,
        epoch=1,
    )


def test_of_a_device_only_the_last_operation_is_open() -> None:
    store = Store(None)
    store.put_revision(
        RevisionRecord(
            digest="r", seq=1, commit=None, accepted_at_s=NOW_S, accepted_by="a", plan_digest="p"
        ),
        {},
    )
    store.put_rollout(Rollout(id="000001-r", to="r", origin=None, waves=(1,), since_s=NOW_S))
    # The end of the first one was not kept in the place from which this Store was filled.
    last = operation(2, SetPools(DECLARED_POOLS), Stage.SENT)
    store.put_operations([operation(1, SetPowerMode("low"), Stage.READ_BACK), last])
    revisions = Revisions(store, SITE.id)
    revisions.learn("r", SITE)
    engine = Engine(
        site=SITE.id,
        store=store,
        audit=None,
        epoch=store.take_over(),
        edges=Edges(
            clock=StillClock(),
            rng=seeded(1),
            secrets=KnownSecrets(),
            drivers={"fam": Machine(settings())},
            capabilities={"fam": CAPABILITIES},
        ),
        revisions=revisions,
    )
    [left] = store.open_operations()
    assert left.id == last.id
    slot = engine.slots["d1"]
    assert slot.op is not None
    assert slot.op.id == last.id
    assert engine.reconciler.operations.budgets.total == 1
