"""Metrics: what is declared follows Prometheus' conventions, and what is written is read as meant."""

from __future__ import annotations

import re

import pytest

from control_plane.core import metrics
from control_plane.core.metrics import Histogram, Metric, Sample, exposition

UNITS = ("_seconds", "_bytes", "_watts", "_info")
COUNTED = {"gridplane_devices", "gridplane_leader", "gridplane_fence", "gridplane_ready"}
LINE = re.compile(
    r'^(?P<name>[a-z_]+)(\{(?P<labels>([a-z_]+="([^"\\\n]|\\["\\n])*",?)*)\})? (?P<value>\S+)$'
)


@pytest.mark.parametrize("metric", metrics.REGISTER, ids=lambda metric: metric.name)
def test_names_say_what_is_counted_and_in_what(metric: Metric) -> None:
    assert re.fullmatch(r"(gridplane|process)_[a-z_]+", metric.name)
    assert (metric.type == "counter") == metric.name.endswith("_total")
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert "site" not in metric.labels
    if "watts" in metric.help or "duration" in metric.name or "How long" in metric.help:
        assert metric.name.endswith(UNITS)


def test_no_name_stands_twice() -> None:
    names = [metric.name for metric in metrics.REGISTER]
    assert len(set(names)) == len(names)


def test_text_has_each_metric_together_under_its_help_and_type() -> None:
    text = exposition(
        [
            Sample(metrics.DEVICES, 12, ("converged",)),
            Sample(metrics.LEADER, 1),
            Sample(metrics.DEVICES, 2, ("no_headroom",)),
        ],
        {"site": "lab"},
    ).decode()
    assert text.splitlines() == [
        f"# HELP gridplane_leader {metrics.LEADER.help}",
        "# TYPE gridplane_leader gauge",
        'gridplane_leader{site="lab"} 1',
        f"# HELP gridplane_devices {metrics.DEVICES.help}",
        "# TYPE gridplane_devices gauge",
        'gridplane_devices{site="lab",state="converged"} 12',
        'gridplane_devices{site="lab",state="no_headroom"} 2',
    ]


def test_what_others_wrote_cannot_break_a_line() -> None:
    text = exposition([Sample(metrics.DEVICES, 1, ('a"b\\c\nd',))], {"site": "lab"}).decode()
    line = text.splitlines()[-1]
    assert line == 'gridplane_devices{site="lab",state="a\\"b\\\\c\\nd"} 1'
    assert LINE.match(line)


def test_values_keep_all_their_digits() -> None:
    text = exposition([Sample(metrics.PERMITTED, 41_812_345.125, ("u1",))], {}).decode()
    assert text.endswith('{feed="u1"} 41812345.125\n')


def test_a_metric_of_the_process_is_of_no_site() -> None:
    assert b"process_cpu_seconds_total 1.5\n" in exposition(
        [Sample(metrics.CPU, 1.5)], {"site": "lab"}
    )


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram([0.1, 1.0])
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.add(value)
    text = exposition(histogram.samples(metrics.LOOK_S), {}).decode()
    name = metrics.LOOK_S.name
    assert text.splitlines()[2:] == [
        f'{name}_bucket{{le="0.1"}} 2',
        f'{name}_bucket{{le="1"}} 3',
        f'{name}_bucket{{le="+Inf"}} 4',
        f"{name}_sum 7.65",
        f"{name}_count 4",
    ]
