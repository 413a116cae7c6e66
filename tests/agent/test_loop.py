"""The agent on a node: what it obeys, what it keeps, what it tells. Virtual time, the real `pynvml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.agent.following import Contact
from control_plane.agent.loop import StaleLibrary
from control_plane.api.objects import ClockRangePart, GpuSettingsPart
from control_plane.core import limits
from control_plane.core.cluster import ClusterAway
from tests.agent.nodes import Node, on_a_node


def test_a_cap_is_enforced_within_two_looks(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        await node.wait()
        assert node.limits_w() == {700}, "nothing is declared, and nothing done"
        node.declare(gpu_w=500)
        await node.wait(0.1)
        assert node.limits_w() == {500}
        await node.wait()
        assert node.told.condition("GpusAsDeclared") == ("True", "AsDeclared")
        assert node.told.last["enforcedGpuW"] == 500
        assert {gpu["cap"] for gpu in node.told.last["gpus"]} == {"as_capped"}

    on_a_node(tmp_path, story)


def test_it_is_enforced_again_after_a_reboot_and_a_driver_upgrade(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        node.host.reboot()
        assert node.limits_w() == {700}
        await node.wait()
        assert node.limits_w() == {500}
        await node.stop()
        node.host.unload()
        node.host.load("610.57.04")
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        assert node.limits_w() == {500}
        assert node.told.last["driver"] == "610.57.04"
        assert "alerts" not in node.told.last

    on_a_node(tmp_path, story)


def test_a_restart_without_contact_keeps_the_cap_and_raises_nothing(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        await node.stop()
        assert node.limits_w() == {500}, "the last cap holds without us"
        node.host.reboot()
        node.start()
        await node.wait()
        assert node.limits_w() == {500}, "what was kept is enforced"
        for gpu in node.host.gpus:
            gpu.limit_w = 300
        await node.wait(60)
        assert node.limits_w() == {300}, "and nothing is raised"

    on_a_node(tmp_path, story)


def test_a_raise_needs_a_grant_that_is_in_force(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=400)
        await node.wait()
        node.declare(gpu_w=600, for_s=-1)
        await node.wait()
        assert node.limits_w() == {400}
        assert node.told.condition("GpusAsDeclared") == ("False", "NoFreshGrant")
        node.declare(gpu_w=600)
        await node.wait()
        assert node.limits_w() == {600}

    on_a_node(tmp_path, story)


def test_a_grant_that_ended_still_caps(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=400, for_s=20)
        await node.wait(100)
        node.host.gpus[0].limit_w = 700
        await node.wait()
        assert node.limits_w() == {400}

    on_a_node(tmp_path, story)


def test_a_grant_under_an_older_fence_is_not_obeyed(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=400, fence=5)
        await node.wait()
        node.declare(gpu_w=700, fence=4)
        await node.wait()
        assert node.limits_w() == {400}
        assert node.told.condition("GpusAsDeclared") == ("False", "OldFence")
        # The object was made anew, in a cluster that was: its fences begin anew too.
        node.declare(gpu_w=500, fence=1, uid="u-2")
        await node.wait()
        assert node.limits_w() == {500}

    on_a_node(tmp_path, story)


def test_the_least_of_ceiling_grant_and_workload(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=600, ceiling_gpu_w=550.0)
        await node.wait()
        assert node.limits_w() == {550}
        node.declare(gpu_w=600, ceiling_gpu_w=550.0, workload_gpu_w=350.0)
        await node.wait()
        assert node.limits_w() == {350}
        node.declare(gpu_w=600, ceiling_gpu_w=550.0)
        await node.wait()
        assert node.limits_w() == {550}

    on_a_node(tmp_path, story)


def test_under_a_hold_limits_are_only_lowered(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        persistent = GpuSettingsPart(persistence=True)
        node.declare(gpu_w=500, held_by="ann", settings=persistent)
        await node.wait()
        assert node.limits_w() == {500}
        assert not node.host.gpus[0].persistence
        node.declare(gpu_w=600, held_by="ann", settings=persistent)
        await node.wait()
        assert node.limits_w() == {500}
        node.declare(gpu_w=600, settings=persistent)
        await node.wait()
        assert node.limits_w() == {600}
        assert node.host.gpus[0].persistence

    on_a_node(tmp_path, story)


def test_clocks_and_modes_are_set_once_and_again_after_a_reboot(tmp_path: Path) -> None:
    declared = GpuSettingsPart(
        graphics_clock=ClockRangePart(min_mhz=345, max_mhz=1_410), persistence=True, ecc=False
    )

    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500, settings=declared)
        await node.wait(60)
        assert node.host.gpus[7].graphics == (345, 1_410)
        kinds = [what for _, what, _ in node.host.writes]
        assert {kind: kinds.count(kind) for kind in kinds} == {
            "PersistenceMode": 8, "PowerManagementLimit": 8, "GpuLockedClocks": 8, "EccMode": 8,
        }  # fmt: skip
        assert node.told.condition("GpusAsDeclared") == ("False", "NeedsReboot")
        node.host.reboot()
        await node.wait()
        assert node.host.gpus[7].graphics == (345, 1_410)
        assert node.told.condition("GpusAsDeclared") == ("True", "AsDeclared")

    on_a_node(tmp_path, story)


def test_a_second_writer_is_lowered_each_time_and_named(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        node.host.other_writer(650, every_s=15)
        await node.wait(90)
        node.host.other_writer(None)
        await node.wait()
        assert node.limits_w() == {500}
        assert {alert["kind"] for alert in node.told.last["alerts"]} == {"second_writer"}

    on_a_node(tmp_path, story)


def test_a_workload_may_set_less_and_keeps_it(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        node.host.other_writer(350, every_s=15)
        await node.wait(90)
        assert node.limits_w() == {350}
        assert node.told.condition("GpusAsDeclared") == ("False", "LowerByOther")
        assert "alerts" not in node.told.last

    on_a_node(tmp_path, story)


def test_a_grant_that_cannot_be_kept_is_lowered_to_and_not_raised_to(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=400)
        await node.wait()
        folder = tmp_path / "kept.new"
        folder.mkdir()
        node.declare(gpu_w=600)
        await node.wait()
        assert node.limits_w() == {400}
        assert node.told.condition("GpusAsDeclared") == ("False", "NotKept")
        node.declare(gpu_w=300)
        await node.wait()
        assert node.limits_w() == {300}
        folder.rmdir()
        node.declare(gpu_w=600)
        await node.wait()
        assert node.limits_w() == {600}

    on_a_node(tmp_path, story)


def test_a_damaged_file_is_put_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text('{"version":1,"caps":{"grant"')

    async def story(node: Node) -> None:
        node.start()
        await node.wait()
        assert "was damaged" in node.lines[0]
        assert (tmp_path / "kept.damaged").exists()

    on_a_node(tmp_path, story)


# -- health ---------------------------------------------------------------------------------------------


def test_an_xid_is_told_within_two_looks_and_outlives_a_restart(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        node.host.fall_off(3)
        began_s = node.clock.wall_s()
        while "alerts" not in node.told.last:
            await node.wait(0.5)
        assert node.clock.wall_s() - began_s <= 2 * limits.GPU_LOOK_S
        kinds = {(a["kind"], a.get("xid"), a["rung"]) for a in node.told.last["alerts"]}
        assert kinds == {("gpu_lost", None, "reboot"), ("xid", 79, "reboot")}
        assert node.told.condition("GpusHealthy")[0] == "False"
        since = node.told.last["alerts"][0]["since"]
        await node.stop()
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        assert {a["since"] for a in node.told.last["alerts"] if a["kind"] == "xid"} == {since}
        node.host.power_cycle()
        await node.wait()
        assert "alerts" not in node.told.last
        assert node.told.condition("GpusHealthy") == ("True", "NothingFound")

    on_a_node(tmp_path, story)


def test_nothing_is_told_while_nothing_changes(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait(20)
        sent = len(node.told.statuses)
        await node.wait(limits.GPU_REPORT_S - 30)
        assert len(node.told.statuses) == sent
        await node.wait(limits.GPU_REPORT_S * 3)
        assert len(node.told.statuses) == sent + 3, "but every five minutes that it is alive"

    on_a_node(tmp_path, story)


def test_no_write_and_a_name_while_the_driver_cannot_be_read(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.host.mismatch = True
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        assert node.host.writes == []
        assert node.told.condition("GpusReadable") == ("False", "Mismatch")
        assert node.told.condition("GpusAsDeclared") == ("Unknown", "Mismatch")
        node.host.mismatch = False
        await node.wait()
        assert node.limits_w() == {500}

    on_a_node(tmp_path, story)


def test_a_library_of_another_version_ends_the_process_after_a_while(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.host.mismatch = True
        node.start()
        await node.wait(limits.GPU_STALE_LIBRARY_S + 20)
        assert isinstance(await node.error(), StaleLibrary)
        node.start()
        await node.wait()

    on_a_node(tmp_path, story)


def test_writes_that_are_refused_are_told(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.host.permitted = False
        node.start()
        node.declare(gpu_w=500)
        await node.wait(60)
        assert node.limits_w() == {700}
        assert node.told.condition("GpusAsDeclared") == ("False", "NotPermitted")
        assert {alert["kind"] for alert in node.told.last["alerts"]} == {"cap_not_enforced"}

    on_a_node(tmp_path, story)


# -- contact --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contact", "reason"),
    [
        (Contact.AMBIGUOUS, "Ambiguous"),
        (Contact.NOT_UNDERSTOOD, "NotUnderstood"),
    ],
)
def test_without_an_object_to_obey_the_last_grant_is_kept(
    tmp_path: Path, contact: Contact, reason: str
) -> None:
    async def story(node: Node) -> None:
        agent = node.start()
        node.declare(gpu_w=500)
        await node.wait()
        agent.heard(contact, None)
        node.host.reboot()
        await node.wait()
        assert node.limits_w() == {500}
        assert node.told.condition("GpusAsDeclared")[1] == reason

    on_a_node(tmp_path, story)


def test_a_node_that_is_not_declared_any_more_keeps_its_cap_and_tells_nobody(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        agent = node.start()
        node.declare(gpu_w=500)
        await node.wait()
        sent = len(node.told.statuses)
        agent.heard(Contact.NOT_DECLARED, None)
        node.host.reboot()
        await node.wait(2 * limits.GPU_REPORT_S)
        assert node.limits_w() == {500}
        assert len(node.told.statuses) == sent

    on_a_node(tmp_path, story)


def test_a_status_that_was_not_taken_is_sent_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.told.error = ClusterAway("nobody answers")
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        assert (node.told.statuses, node.limits_w()) == ([], {500})
        node.told.error = None
        await node.wait(60)
        assert node.told.last["enforcedGpuW"] == 500

    on_a_node(tmp_path, story)


def test_a_clock_that_is_set_back_makes_no_old_grant_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=400, for_s=30)
        await node.wait(60)
        real = node.clock.wall_s
        monkeypatch.setattr(node.clock, "wall_s", lambda: real() - 3_600)
        for gpu in node.host.gpus:
            gpu.limit_w = 300
        assert node.agent is not None
        await node.wait(30)
        assert node.limits_w() == {300}

    on_a_node(tmp_path, story)
