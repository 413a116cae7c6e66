"""Grants, Jobs and files of firmware that nothing refers to go; in doubt one stays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.cluster import Metadata, Object
from control_plane.core.firmware_job import BUNDLE_LABEL, ROLLOUT_LABEL, WAVE_LABEL, WORK_VOLUME
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.kube.collecting_firmware import Found, superfluous

NOW_S = 1_790_000_000.0
LONG_AGO_S = NOW_S - limits.FIRMWARE_KEPT_S - 1
OLD_S = NOW_S - 2 * limits.REVISION_AGE_S
DONE = FirmwareRollout(
    id="f0001", bundle="", members="", model="", version="", waves=(1,), state=FirmwareState.DONE,
    since_s=LONG_AGO_S,
)  # fmt: skip


def thing(name: str, *, made_s: float = OLD_S, **more: object) -> Object:
    labels = more.pop("labels", {})
    parts = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in more.items()}
    made = dt.datetime.fromtimestamp(made_s, dt.UTC).isoformat()
    return Object(
        metadata=Metadata(name=name, creation_timestamp=made, labels=labels),  # type: ignore[arg-type]
        **parts,  # type: ignore[arg-type]
    )


def job(
    name: str,
    reads: Iterable[str] = (),
    *,
    labels: dict[str, str],
    is_over: bool = True,
    **more: float,
) -> Object:
    sources = [{"configMap": {"name": each}} for each in reads]
    template = {"spec": {"volumes": [{"name": WORK_VOLUME, "projected": {"sources": sources}}]}}
    conditions = [{"type": "Complete", "status": "True"}] if is_over else []
    return thing(
        name, labels=labels, spec={"template": template}, status={"conditions": conditions}, **more
    )


def grant(
    operation: str,
    *,
    step: FlashStep = FlashStep.DONE,
    deadline_s: float = LONG_AGO_S,
    rollout: str = "f0001",
) -> Grant:
    return Grant(
        operation=operation, rollout=rollout, digest="", fence=1, at_once=1, deadline_s=deadline_s,
        entries={"a1": FlashEntry(asset="a1", step=step)},
    )  # fmt: skip


def going(
    *grants: Grant,
    jobs: Iterable[Object] = (),
    maps: Iterable[Object] = (),
    rollouts: Iterable[FirmwareRollout] = (DONE,),
    bundles: frozenset[str] = frozenset({"declared"}),
) -> list[str]:
    operations = tuple(thing(each.operation) for each in grants)
    found = Found(operations=operations, jobs=tuple(jobs), maps=tuple(maps))
    gone = superfluous(
        found, grants={g.operation: g for g in grants}, rollouts=rollouts, bundles=bundles,
        now_s=NOW_S,
    )  # fmt: skip
    return [each.metadata.name for _, each in gone]


def test_a_grant_goes_long_after_its_rollout_has_ended() -> None:
    assert going(grant("j-0")) == ["j-0"]
    assert going(grant("j-0"), rollouts=()) == ["j-0"]


@pytest.mark.parametrize(
    "stays",
    [
        grant("j-0", step=FlashStep.REBOOTING), grant("j-0", deadline_s=NOW_S - 60),
        grant("j-0", step=FlashStep.PENDING, deadline_s=NOW_S + 60),
    ],
    ids=["a device is under way", "not so long ago", "a device may be begun"],
)  # fmt: skip
def test_a_grant_that_somebody_may_ask_for_stays(stays: Grant) -> None:
    assert going(stays) == []


@pytest.mark.parametrize("state", [FirmwareState.HALTED, FirmwareState.INSTALLING])
def test_a_grant_of_a_rollout_that_goes_on_stays(state: FirmwareState) -> None:
    going_on = msgspec.structs.replace(DONE, state=state)
    assert going(grant("j-0"), rollouts=[going_on]) == []


OF_WAVE = {WAVE_LABEL: "0"}


def test_a_declared_job_goes_with_its_files_once_no_kept_revision_asks_for_its_bundle() -> None:
    labels = {**OF_WAVE, BUNDLE_LABEL: "forgotten"}
    maps = [thing("about", labels={BUNDLE_LABEL: "forgotten"}), thing("shards", labels=labels)]
    one = job("j", ["about", "shards"], labels=labels)
    assert going(jobs=[one], maps=maps) == ["j", "about", "shards"]
    assert going(jobs=[one], maps=maps, bundles=frozenset({"forgotten"})) == []
    # As long as its grant is there, people see what it was.
    assert going(grant("j-0", deadline_s=NOW_S - 60), jobs=[one], maps=maps) == []


def test_a_job_of_the_controller_goes_once_it_is_over_and_its_rollout_has_ended() -> None:
    labels = {BUNDLE_LABEL: "declared", ROLLOUT_LABEL: "f0001"}
    maps = [thing("about", labels={BUNDLE_LABEL: "declared"}), thing("shards", labels=labels)]
    one = job("j", ["about", "shards"], labels=labels)
    recent = grant("j-0", deadline_s=NOW_S - 60)
    assert going(recent, jobs=[one], maps=maps) == ["j", "shards"]
    running = job("j", ["about", "shards"], labels=labels, is_over=False)
    assert going(recent, jobs=[running], maps=maps) == []
    halted = msgspec.structs.replace(DONE, state=FirmwareState.HALTED)
    assert going(recent, jobs=[one], maps=maps, rollouts=[halted]) == []


def test_what_was_just_made_or_has_no_bundle_stays() -> None:
    labels = {**OF_WAVE, BUNDLE_LABEL: "forgotten"}
    young = NOW_S - 60
    assert going(jobs=[job("j", labels=labels, made_s=young)]) == []
    assert going(maps=[thing("m", labels=labels, made_s=young), thing("strange")]) == []
