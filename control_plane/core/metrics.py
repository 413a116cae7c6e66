"""Every metric, once, with its labels and what it means; and the text that Prometheus reads. Pure.

`docs/reference/metrics.md` is generated from here. Units are in the names, base units only: seconds, bytes,
watts. Whatever has a label `site` is of that site: `exposition` puts it there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metric(msgspec.Struct, frozen=True, eq=False):
    """One metric as documentation and Prometheus know it."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str
    """One sentence."""


class Sample(NamedTuple):
    """One value, at the moment of asking."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()
    """Values, in the order of the metric's labels."""
    suffix: str = ""
    """Of a histogram: `_bucket` (its last label is then `le`), `_sum` or `_count`."""


REGISTER: Final[list[Metric]] = []


def _metric(
    name: str, type_: Literal["gauge", "counter", "histogram"], help_: str, *labels: str
) -> Metric:
    metric = Metric(name, type_, labels, help_)
    REGISTER.append(metric)
    return metric


# --- the process ----------------------------------------------------------------------------------

BUILD: Final = _metric("gridplane_build_info", "gauge", "1, with the release.", "version")
READY: Final = _metric(
    "gridplane_ready", "gauge", "1 while the caches are whole and fresh: what /readyz says."
)
CPU: Final = _metric("process_cpu_seconds_total", "counter", "CPU time of the process.")
RESIDENT: Final = _metric("process_resident_memory_bytes", "gauge", "Memory of the process.")
STARTED: Final = _metric(
    "process_start_time_seconds", "gauge", "When the process began, since the epoch."
)

# --- leadership -----------------------------------------------------------------------------------

LEADER: Final = _metric("gridplane_leader", "gauge", "1 while this process leads the site.")
FENCE: Final = _metric("gridplane_fence", "gauge", "Number of the tenure; only while it leads.")
TENURES: Final = _metric("gridplane_tenures_total", "counter", "Tenures of this process.")
LEASE_ERRORS: Final = _metric(
    "gridplane_lease_errors_total", "counter", "Turns of the election that the API server failed."
)
GATE: Final = _metric(
    "gridplane_gate_open", "gauge", "1 while writes to devices may pass the actuator gate."
)

STATE_WRITES: Final = _metric(
    "gridplane_state_writes_total", "counter", "Writes of the site's state, in this tenure."
)
STATE_BEHIND: Final = _metric(
    "gridplane_state_parts_behind",
    "gauge",
    "Parts of the site's state that have changed and are not kept in the cluster yet.",
)
STATE_FAILING: Final = _metric(
    "gridplane_state_failing",
    "gauge",
    "1 while the API server does not keep the site's state: nothing is sent to devices.",
)

# --- the API server -------------------------------------------------------------------------------

SILENCE: Final = _metric(
    "gridplane_cache_silence_seconds",
    "gauge",
    "Since the API server last told something of a kind: event, bookmark or page.",
    "kind",
)
CACHED: Final = _metric("gridplane_cache_objects", "gauge", "Objects in the cache.", "kind")
LISTS: Final = _metric(
    "gridplane_cache_lists_total", "counter", "Whole lists that were read.", "kind"
)
CACHE_ERRORS: Final = _metric(
    "gridplane_cache_errors_total", "counter", "Lists and watches that ended badly.", "kind"
)
REQUESTS: Final = _metric(
    "gridplane_api_requests_total",
    "counter",
    "Requests to the API server that have ended.",
    "verb",
    "kind",
    "result",
)
STATUS_WRITES: Final = _metric(
    "gridplane_status_writes_total", "counter", "Statuses that were sent."
)
STATUS_SPARED: Final = _metric(
    "gridplane_status_writes_spared_total",
    "counter",
    "Statuses that stood there already: nothing was sent.",
)
OBJECTS_REFUSED: Final = _metric(
    "gridplane_objects_refused",
    "gauge",
    "Objects whose spec or status the API server will never take; it is not sent again until it changes.",
    "part",
)
EVENTS: Final = _metric(
    "gridplane_events_total",
    "counter",
    "Events for people: written, or dropped because the API server did not take them in time.",
    "result",
)
QUEUE: Final = _metric(
    "gridplane_queue_keys",
    "gauge",
    "Keys that wait: devices to be judged, devices that wait for a budget, statuses, Events.",
    "queue",
)

# --- the site -------------------------------------------------------------------------------------

DEVICES: Final = _metric(
    "gridplane_devices",
    "gauge",
    "Managed devices: converged, to_do, unknown, or the reason that they are left as they are.",
    "state",
)
OPERATIONS: Final = _metric(
    "gridplane_operations_open", "gauge", "Writes whose end is not known yet.", "stage"
)
LOOKS: Final = _metric(
    "gridplane_device_looks_total",
    "counter",
    "Looks at devices: seen, or why not.",
    "result",
)
LOOK_S: Final = _metric(
    "gridplane_device_look_duration_seconds", "histogram", "How long a look at a device takes."
)
WAVE: Final = _metric(
    "gridplane_rollout_wave", "gauge", "Wave of the rollout, from 1; 0 without one."
)
WAVES: Final = _metric("gridplane_rollout_waves", "gauge", "Waves of the rollout.")
HALTED: Final = _metric("gridplane_rollout_halted", "gauge", "1 while a gate holds the rollout.")
INCIDENTS: Final = _metric("gridplane_incidents_open", "gauge", "Open incidents.")
PAGES: Final = _metric(
    "gridplane_pages_total", "counter", "Things that a person has to look at, in this tenure."
)
PERMITTED: Final = _metric(
    "gridplane_power_permitted_watts", "gauge", "What settings permit below a feed.", "feed"
)
USABLE: Final = _metric("gridplane_power_usable_watts", "gauge", "What a feed can bear.", "feed")


class Histogram:
    """Counts of durations by upper bound; cheap to add to."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, metric: Metric) -> Iterator[Sample]:
        """As Prometheus has them: each bucket with those below it."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield Sample(metric, total, (_number(bound),), "_bucket")
        yield Sample(metric, self._sum, (), "_sum")
        yield Sample(metric, total, (), "_count")


def exposition(samples: Iterable[Sample], common: Mapping[str, str]) -> bytes:
    """The samples as text, those of a metric together.

    Args:
        samples: in any order; a metric without any is left out.
        common: labels of all metrics of ours, such as the site; those of the process have none.
    """
    found: dict[Metric, list[str]] = {}
    ours = [f'{name}="{_escaped(value)}"' for name, value in common.items()]
    for metric, value, labels, suffix in samples:
        names = (*metric.labels, "le") if suffix == "_bucket" else metric.labels
        pairs = [f'{n}="{_escaped(v)}"' for n, v in zip(names, labels, strict=True)]
        if metric.name.startswith("gridplane_"):
            pairs = ours + pairs
        within = f"{{{','.join(pairs)}}}" if pairs else ""
        found.setdefault(metric, []).append(f"{metric.name}{suffix}{within} {_number(value)}")
    lines: list[str] = []
    for metric in REGISTER:
        if metric in found:
            lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.type}")
            lines += found[metric]
    return ("\n".join(lines) + "\n").encode()


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
