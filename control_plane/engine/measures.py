"""An engine as metrics: read off what it has in memory, a few milliseconds for 14,000 devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from control_plane.core import metrics
from control_plane.core.metrics import Sample
from control_plane.core.rollout import RolloutState
from control_plane.core.verify import OPEN_STAGES
from control_plane.engine.gate import Gate
from control_plane.engine.poller import Poller
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.slots import Slot
from control_plane.engine.standing import Progress


def measures(
    progress: Progress, slots: Iterable[Slot], reconciler: Reconciler, poller: Poller, gate: Gate
) -> Iterator[Sample]:
    """Every metric of `core.metrics` that an engine can tell."""
    states = Counter(slot.decision.state if slot.decision else "unknown" for slot in slots)
    yield from (Sample(metrics.DEVICES, states[state], (state,)) for state in sorted(states))
    stages = Counter(slot.op.stage for slot in reconciler.operations.open.values() if slot.op)
    for stage in sorted(OPEN_STAGES):
        yield Sample(metrics.OPERATIONS, stages[stage], (stage.value,))
    queue = reconciler.sights.queue
    yield Sample(metrics.QUEUE, len(queue), ("devices",))
    yield Sample(metrics.QUEUE, queue.parked, ("devices_parked",))
    for result, count in sorted(poller.looks.items()):
        yield Sample(metrics.LOOKS, count, (result,))
    yield from poller.durations.samples(metrics.LOOK_S)
    yield Sample(metrics.WAVE, progress.wave)
    yield Sample(metrics.WAVES, progress.waves)
    yield Sample(metrics.HALTED, progress.rollout == RolloutState.HALTED)
    yield Sample(metrics.INCIDENTS, progress.incidents)
    yield Sample(metrics.PAGES, progress.paged)
    yield Sample(metrics.GATE, gate.passes)
    loads = reconciler.sights.loads
    for node in reconciler.site.feeds.values():
        yield Sample(metrics.PERMITTED, loads.at(node.id), (node.id,))
        yield Sample(metrics.USABLE, loads.usable_w(node.id), (node.id,))
