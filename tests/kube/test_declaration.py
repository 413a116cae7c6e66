"""A revision is understood whole, or refused with the words of the command line."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.objects import ApprovalPart, FleetRevisionSpec, SiteSpec
from control_plane.core.observation import Field
from control_plane.inventory.bundle import pack
from control_plane.inventory.load import load
from control_plane.kube.declaration import approvals_in, read_revision, revision_status

INVENTORY = Path(__file__).resolve().parents[2] / "inventory"
LOADED = load(INVENTORY, sites={"lab"})
FILES = dict(LOADED.files["lab"])


def spec(data: bytes, site: str = "lab") -> tuple[str, FleetRevisionSpec]:
    made = FleetRevisionSpec(site=site, format="msgpack+zlib", data=data)
    return hashlib.sha256(data).hexdigest(), made


def test_what_the_command_line_understands_is_understood_alike() -> None:
    declared = read_revision(*spec(pack(FILES)))
    assert LOADED.fleet is not None
    assert declared.site == LOADED.fleet.sites["lab"]
    assert declared.digest == LOADED.digests["lab"]
    assert declared.files == FILES
    assert declared.errors == ()


def test_the_same_findings_as_on_the_command_line_at_the_same_places() -> None:
    path = "sites/lab/racks/lab.yaml"
    broken = {**FILES, path: FILES[path].replace(b"feed: lab-hall-p1", b"feed: lab-hall-p9")}
    declared = read_revision(*spec(pack(broken)))
    assert declared.site is None
    [finding] = declared.errors
    assert str(finding.where).startswith(f"inventory/{path}:")
    assert "lab-hall-p9" in finding.what

    status = revision_status(declared, (), generation=1, now_s=0.0)
    assert {c.type: c.status for c in status.conditions} == {
        "Stalled": "True", "Ready": "False", "Accepted": "False",
    }  # fmt: skip
    assert status.findings[0].where == str(finding.where)
    assert "did you mean 'lab-hall-p" in status.findings[0].what


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "fleet.yaml"),
        ({k: v for k, v in FILES.items() if not k.startswith("sites/")}, "site 'lab'"),
        ({k: v for k, v in FILES.items() if "power" not in k}, "power.yaml"),
        ({**FILES, "fleet.yaml": b"\xff\xfe"}, "UTF-8"),
    ],
)
def test_what_is_empty_or_not_whole_declares_nothing(files: dict[str, bytes], says: str) -> None:
    declared = read_revision(*spec(pack(files)))
    assert declared.site is None
    assert any(says in f"{finding.where} {finding.what}" for finding in declared.errors)


def test_a_revision_of_another_site_is_none_of_ours() -> None:
    declared = read_revision(*spec(pack(FILES), site="wa-hosted"))
    assert declared.site is None
    assert declared.errors


@pytest.mark.parametrize(
    "data",
    [b"", b"not zlib", zlib.compress(b"not msgpack"), pack(FILES)[:-40], pack(FILES) + b"more"],
)
def test_damaged_bytes_are_one_finding(data: bytes) -> None:
    declared = read_revision(*spec(data))
    assert [finding.code for finding in declared.errors] == ["E0115"]


def test_bytes_under_another_name_are_not_what_was_meant() -> None:
    _, made = spec(pack(FILES))
    declared = read_revision("0" * 64, made)
    assert declared.site is None
    assert [finding.code for finding in declared.errors] == ["E0115"]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    assert read_revision(*spec(data)).site is None


def test_a_status_says_what_a_good_revision_declares() -> None:
    declared = read_revision(*spec(pack(FILES)))
    status = revision_status(declared, (), generation=3, now_s=0.0)
    assert status.canonical_digest == declared.digest
    assert status.devices == 14
    assert status.observed_generation == 3
    assert {c.type: c.status for c in status.conditions} == {"Ready": "True", "Accepted": "True"}


def test_a_status_stays_within_the_schema_however_much_is_wrong() -> None:
    rows = "\n".join(f"  - {{id: r{n}, nonsense: 1}}" for n in range(200)).encode()
    declared = read_revision(*spec(pack({**FILES, "sites/lab/racks/lab.yaml": b"racks:\n" + rows})))
    status = revision_status(declared, (), generation=1, now_s=0.0)
    assert 0 < len(status.findings) <= 50
    assert all(len(c.message) <= 1_024 for c in status.conditions)


def test_approvals_are_read_off_the_site() -> None:
    part = ApprovalPart(owner="acme", field="pools", by="ann")
    read = approvals_in(SiteSpec(revision="0" * 64, approvals=(part,)))
    assert [(a.owner, a.field, a.by) for a in read] == [("acme", Field.POOLS, "ann")]
    assert msgspec.to_builtins(part)["by"] == "ann"
