"""`gridplane chart verify` finds each way in which a fact can be wrong, and unpacks nothing."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.provision.chart import known_facts
from control_plane.provision.chart_archive import NotAChart, compare, open_chart

KUEUE = known_facts()["kueue"]


def archive(files: Mapping[str, Any]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else yaml.safe_dump(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def defaults() -> dict[str, Any]:
    """The values of a chart of which every fact about kueue holds."""
    values: dict[str, Any] = {}
    for path, key in KUEUE.keys.items():
        *parents, last = path.split(".")
        target = values
        for step in parents:
            target = target.setdefault(step, {})
        target[last] = key.default if key.has_default else None
    return values


def chart(values: Mapping[str, Any], version: str = "0.19.2") -> dict[str, Any]:
    return {
        "kueue/Chart.yaml": {"name": "kueue", "version": version},
        "kueue/values.yaml": dict(values),
        "kueue/templates/x.yaml": b"{{ not yaml at all",
    }


def found(values: Mapping[str, Any], version: str = "0.19.2") -> list[str]:
    return list(compare(KUEUE, open_chart(archive(chart(values, version)))).differences)


def test_a_chart_that_is_as_we_know_it_has_no_difference() -> None:
    compared = compare(KUEUE, open_chart(archive(chart(defaults()))))
    assert (compared.differences, compared.not_found, compared.unknown) == ((), (), ())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"enableKueueViz": True}, "enableKueueViz: True, and the facts say False"),
        ({"enableKueueViz": "no"}, "enableKueueViz: 'no', and the facts say boolean"),
        (
            {"mutatingWebhook": {}},
            "mutatingWebhook.reinvocationPolicy: not there; the facts have 'Never'",
        ),
    ],
    ids=["another default", "another kind", "not there"],
)
def test_a_fact_that_does_not_hold_is_told(change: Mapping[str, Any], says: str) -> None:
    assert found({**defaults(), **change}) == [says]


def test_another_version_is_told() -> None:
    assert found(defaults(), "0.20.0") == ["version: the facts are about 0.19.2, this is 0.20.0"]


def test_what_is_without_a_fact_and_what_is_not_set_are_told_apart() -> None:
    values = {**defaults(), "brandNew": {"deep": {"er": 1}}}
    del values["managerConfig"]
    compared = compare(KUEUE, open_chart(archive(chart(values))))
    assert compared.differences == ()
    assert compared.unknown == ("brandNew.deep.er",)
    assert compared.not_found == ("managerConfig.controllerManagerConfigYaml",)


def test_values_of_charts_inside_stand_under_their_names() -> None:
    files = {
        "top/Chart.yaml": {"name": "top", "version": "1.0.0", "dependencies": [{"name": "inner"}]},
        "top/values.yaml": {"inner": {"a": 2}},
        "top/charts/inner/Chart.yaml": {"name": "inner", "version": "1.0.0"},
        "top/charts/inner/values.yaml": {"a": 1, "b": {"c": 3}},
    }
    assert open_chart(archive(files)).values == {"inner": {"a": 2, "b": {"c": 3}}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        archive({"README": b"x"}),
        archive({"x/Chart.yaml": b"- a list"}),
        archive({"x/Chart.yaml": b"{"}),
        archive({"x/Chart.yaml": {"name": "x"}}),
        archive(chart({}))[:100],
    ],
    ids=["empty", "text", "no chart", "a list", "no YAML", "no version", "cut short"],
)
def test_what_is_no_chart_is_refused(data: bytes) -> None:
    with pytest.raises(NotAChart):
        open_chart(data)


def test_the_verb_says_it_and_ends_as_a_rule_that_said_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "kueue-0.19.2.tgz", tmp_path / "kueue.tgz"
    good.write_bytes(archive(chart(defaults())))
    bad.write_bytes(archive(chart({**defaults(), "enableKueueViz": True})))
    assert main(["chart", "verify", str(good)]) == Exit.OK
    assert "every fact holds" in capsys.readouterr().out
    assert main(["chart", "verify", str(bad), "-o", "json"]) == Exit.REFUSED
    said = json.loads(capsys.readouterr().out)
    assert said["differences"] == ["enableKueueViz: True, and the facts say False"]


def test_the_list_says_that_nothing_of_ours_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chart", "list"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["gpu-operator", "kueue", "network-operator"]
    assert all("not verified against the published chart" in line for line in lines[1:])


def test_the_facts_of_a_chart_are_listed_with_what_to_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["chart", "facts", "gpu-operator"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    (gone,) = [line for line in lines if line.startswith("driver.useOpenKernelModules ")]
    assert "gone: write driver.kernelModuleType: open" in gone
    assert main(["chart", "facts", "gpu-operatr"]) == Exit.USAGE
    assert "only of gpu-operator, kueue, network-operator" in capsys.readouterr().err
