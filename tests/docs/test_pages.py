"""Pages lead somewhere, and name only what there is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.core.decision import Danger, Reason, Why

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]*`")
_PATH = re.compile(r"`((?:control_plane|docs|tests|tools|examples|inventory)/[\w./*-]+)`")


def anchors(page: Path) -> set[str]:
    """As a forge makes them from headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_page_and_every_path_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in _LINK.findall(_CODE.sub("", text)):
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link
    for path in _PATH.findall(text):
        assert any(True for _ in ROOT.glob(path.rstrip("/"))), path


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs/README.md"
    linked = {(index.parent / link).resolve() for link in _LINK.findall(index.read_text())}
    pages = {page for page in PAGES if page.is_relative_to(index.parent) and page != index}
    decisions = {page for page in pages if page.parent.name == "decisions"}
    assert pages - decisions <= linked
    listed = (ROOT / "docs/decisions/README.md").read_text()
    assert all(page.name in listed for page in decisions if page.name != "README.md")


def test_the_policy_names_reasons_as_they_are_shown() -> None:
    page = (ROOT / "docs/explanations/drift-policy.md").read_text(encoding="utf-8")
    table = page.partition("## ")[0]
    shown = {word for row in _rows(table) for word in re.findall(r"`([a-z_]+)`", row[-1])}
    assert shown <= {*Reason, *Why}
    assert {Why.DRIFT, Why.CAP, Reason.MANUAL_OVERRIDE, Reason.ASK, Reason.CONTESTED} <= shown


def test_the_glossary_knows_every_class_of_danger() -> None:
    page = (ROOT / "docs/reference/glossary.md").read_text(encoding="utf-8")
    assert all(f"{danger} " in page for danger in Danger)


def _rows(table: str) -> Iterator[list[str]]:
    for line in table.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs/decisions/0002-dependencies.md").read_text(encoding="utf-8").lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["fast"], *extras["kube"]]
    names = [re.split(r"[^\w-]", one)[0].lower() for one in wanted]
    assert len(names) >= 7
    assert [name for name in names if name not in page] == []
