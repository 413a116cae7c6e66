"""A stack's configuration: every mistake at once, each at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.core.errors import DeclarationError
from control_plane.provision.settings import Layer, Settings, StackFile, read_settings, stack_of
from control_plane.provision.site import read_site

ROOT = Path(__file__).resolve().parents[2]
PATH = "stacks/config/Pulumi.lab.platform.yaml"
STACK = "lab.platform"


def read(text: str, stack: str = STACK) -> Settings:
    """What a stack is told by its file alone."""
    file = StackFile(PATH, text.encode())
    given = {}
    for line in text.splitlines()[1:]:
        key, _, value = line.strip().partition(": ")
        given[key.removeprefix("gridplane:")] = value
    return read_settings(stack, given, file)


def findings(text: str, stack: str = STACK) -> list[tuple[str, str]]:
    with pytest.raises(DeclarationError) as raised:
        read(text, stack)
    return [(one.code, str(one.where).removeprefix(PATH)) for one in raised.value.findings]


GOOD = "config:\n  gridplane:site: lab\n  gridplane:layer: platform\n"


def test_what_is_not_said_has_its_default() -> None:
    assert read(GOOD) == Settings(site="lab", layer=Layer.PLATFORM)
    assert read(GOOD + "  gridplane:image: x:1\n").image == "x:1"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GOOD.replace("platform", "platfrom"), [("E0204", ":3:20")]),
        (GOOD.replace("  gridplane:layer: platform\n", ""), [("E0202", "")]),
        (GOOD + "  gridplane:nmespace: x\n  gridplane:imagee: y\n", [("E0201", ":4:3"), ("E0201", ":5:3")]),
        (GOOD.replace("lab", "lob"), [("E0801", ":2:19")]),
        ("config:\n", [("E0202", ""), ("E0202", "")]),
    ],
    ids=["layer", "no layer", "unknown keys", "another stack's", "nothing"],
)  # fmt: skip
def test_a_mistake_is_told_at_its_line(text: str, found: list[tuple[str, str]]) -> None:
    assert findings(text) == found


def test_a_file_that_is_no_yaml_is_a_finding_and_not_a_traceback() -> None:
    file = StackFile(PATH, b"config: [")
    with pytest.raises(DeclarationError) as raised:
        read_settings(STACK, {"site": "lab", "layer": "platform"}, file)
    assert [one.code for one in raised.value.findings] == ["E0106"]


def test_without_a_file_everything_may_come_from_the_command_line() -> None:
    given = {"site": "lab", "layer": "platform"}
    assert read_settings(STACK, given, StackFile(PATH, None)).stack == STACK


def test_each_layer_stands_on_the_one_before() -> None:
    assert [layer.below for layer in Layer] == [None, Layer.CLUSTER, Layer.PLATFORM]
    assert stack_of("ga-macon", Layer.FLEET) == "ga-macon.fleet"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "stacks" / "config").glob("*.yaml")), ids=lambda p: p.name
)
def test_the_stacks_of_the_repository_are_configured(path: Path) -> None:
    stack = path.name.removeprefix("Pulumi.").removesuffix(".yaml")
    file = StackFile(path.name, path.read_bytes())
    lines = [line.strip() for line in path.read_text().splitlines()]
    given = dict(
        line.removeprefix("gridplane:").split(": ", 1) for line in lines if line.startswith("gridplane:")
    )  # fmt: skip
    settings = read_settings(stack, given, file)
    assert read_site(ROOT, settings, file).site.id == settings.site
    assert 'pulumi:disable-default-providers: ["kubernetes", "gridplane"]' in lines


def test_a_site_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "inventory" / "sites" / "lab").mkdir(parents=True)
    file = StackFile(PATH, GOOD.replace("lab", "labb").encode())
    with pytest.raises(DeclarationError) as raised:
        read_site(tmp_path, Settings(site="labb", layer=Layer.PLATFORM), file)
    (found,) = raised.value.findings
    assert (found.code, str(found.where), found.suggestion) == ("E0301", f"{PATH}:2:19", "lab")


def test_an_inventory_with_a_mistake_ends_with_its_findings(tmp_path: Path) -> None:
    (tmp_path / "inventory" / "sites" / "lab").mkdir(parents=True)
    (tmp_path / "inventory" / "fleet.yaml").write_text("nam: x\n")
    with pytest.raises(DeclarationError) as raised:
        read_site(
            tmp_path, Settings(site="lab", layer=Layer.PLATFORM), StackFile(PATH, GOOD.encode())
        )
    assert "inventory/fleet.yaml" in str(raised.value.findings[0].where)
