"""Charts are refused before Helm sees them, at the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.core.errors import DeclarationError
from control_plane.provision.chart import (
    Chart,
    effective,
    known_facts,
    line_of,
    read_charts,
    read_facts,
    refuse_skips,
)

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
charts:
  network-operator:
    version: 26.4.1
    repository: https://helm.ngc.nvidia.com/nvidia
    namespace: nvidia-network-operator
    values: {nfd: {enabled: false}}
  gpu-operator:
    version: v26.7.0
    repository: https://helm.ngc.nvidia.com/nvidia
    namespace: gpu-operator
    values:
"""


def charts(values: str) -> tuple[Chart, ...]:
    """The two operators, with values of the GPU operator from line 12 on."""
    text = HEAD + "".join(f"      {line}\n" for line in values.splitlines())
    return read_charts("charts.yaml", text.encode(), known_facts())


def findings(values: str) -> list[tuple[str, str, str | None]]:
    with pytest.raises(DeclarationError) as raised:
        charts(values)
    return [(one.code, str(one.where), one.suggestion) for one in raised.value.findings]


@pytest.mark.parametrize("name", ["published.yaml", "stand-in.yaml"])
def test_what_is_in_the_repository_is_accepted(name: str) -> None:
    path = ROOT / "stacks" / "charts" / name
    found = read_charts(name, path.read_bytes(), known_facts())
    assert [chart.name for chart in found] == ["network-operator", "gpu-operator", "kueue"]


@pytest.mark.parametrize(
    ("values", "code", "where", "suggestion"),
    [
        ("drivr: {enabled: true}", "E0803", "charts.yaml:12:7", None),
        ("driver: {enabeld: true}", "E0803", "charts.yaml:12:16", "driver.enabled"),
        ("driver:\n  useOpenKernelModules: true", "E0803", "charts.yaml:13:9", None),
        ("driver: {version: 595.91}", "E0804", "charts.yaml:12:25", None),
        ("driver: {kernelModuleType: opne}", "E0804", "charts.yaml:12:34", None),
        ("dcgm: {enabled: 1}", "E0804", "charts.yaml:12:23", None),
        ("driver: on", "E0803", "charts.yaml:12:7", None),
        ("cdi: {enabled: false, nriPluginEnabled: true}", "E0805", "charts.yaml:12:13", None),
        ("devicePlugin: {config: {create: true, data: {a: b}}}", "E0805", "charts.yaml:12:31", None),
        ("gpuCluster: {deployCR: true}\nclusterPolicy: {deployCR: false}", "E0805", "charts.yaml:12:20",
         None),
    ],
    ids=[
        "no such part", "a typing error", "gone", "a number for text", "no choice", "a number for a switch",
        "a word for a mapping", "NRI without CDI", "no name", "no driver objects",
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_at_its_line(
    values: str, code: str, where: str, suggestion: str | None
) -> None:
    assert findings(values) == [(code, where, suggestion)]


def test_a_default_of_one_chart_may_exclude_a_value_of_another() -> None:
    text = (HEAD + "      nfd: {enabled: true}\n").replace(
        "values: {nfd: {enabled: false}}", "values: {}"
    )
    with pytest.raises(DeclarationError) as raised:
        read_charts("charts.yaml", text.encode(), known_facts())
    (found,) = raised.value.findings
    assert found.code == "E0805"
    assert "take each other's labels away" in found.what


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert [code for code, _, _ in findings("drivr: {}\ndcgm: {enabled: 1}")] == ["E0803", "E0804"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("charts: {gpu-operatr: {version: 26.7.0, path: x, namespace: x}}", "E0808"),
        ("charts: {gpu-operator: {version: 26.7.0, namespace: x}}", "E0807"),
        (
            "charts: {gpu-operator: {version: 26.7.0, path: x, repository: 'oci://x', namespace: x}}",
            "E0807",
        ),
        ("charts: {gpu-operator: {version: '>=26.7.0', path: x, namespace: x}}", "E0205"),
        ("charts: {gpu-operator: {version: 26.7.0, path: x}}", "E0202"),
        ("chart: {}", "E0201"),
    ],
    ids=["unknown", "no source", "two sources", "a range", "no namespace", "another file"],
)
def test_a_chart_has_a_name_a_version_and_one_source(text: str, code: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        read_charts("charts.yaml", text.encode(), known_facts())
    assert code in {one.code for one in raised.value.findings}


@pytest.mark.parametrize(
    ("standing", "is_refused"),
    [
        ({}, False),
        ({"gpu-operator": "v26.7.1"}, False),
        ({"gpu-operator": "v26.3.3"}, False),
        ({"gpu-operator": "v25.10.1"}, True),
        ({"gpu-operator": "v24.9.0"}, True),
        ({"kueue": "0.1.0"}, False),
    ],
    ids=["nothing stands", "the same line", "the line before", "two lines", "too old", "another"],
)
def test_a_release_line_is_not_skipped(standing: dict[str, str], *, is_refused: bool) -> None:
    text = (HEAD + "      {}\n").encode()
    found = read_charts("charts.yaml", text, known_facts())
    if not is_refused:
        refuse_skips("charts.yaml", text, found, standing)
        return
    with pytest.raises(DeclarationError) as raised:
        refuse_skips("charts.yaml", text, found, standing)
    (finding,) = raised.value.findings
    assert (finding.code, str(finding.where)) == ("E0806", "charts.yaml:8:14")


def test_what_a_chart_makes_of_our_values_is_known_where_we_set_them() -> None:
    values = "driver: {version: '1.2', upgradePolicy: {gpuPodDeletion: {timeoutSeconds: 60}}}"
    chart = charts(values)[1]
    ((kept, wanted),) = chart.kept()
    assert (kept.kind, wanted) == (
        "ClusterPolicy",
        {"spec": {"driver": {"version": "1.2", "upgradePolicy": {"podDeletion": {"timeoutSeconds": 60}}}}},
    )  # fmt: skip
    assert effective(chart, "cdi.enabled") is True


def test_a_line_is_the_first_two_numbers() -> None:
    assert line_of("v26.7.0-rc1") == line_of("26.7.3") == "26.7"


def test_facts_that_are_not_facts_are_refused() -> None:
    with pytest.raises(DeclarationError) as raised:
        read_facts(
            "x.yaml", b"chart: x\nrepository: y\nwritten_for: 1.2.3\nkeys: {a: {type: text}}\n"
        )
    assert [one.code for one in raised.value.findings] == ["E0202"]
