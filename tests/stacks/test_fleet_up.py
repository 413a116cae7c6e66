"""The fleet layer on the real engine: made, changed, rolled back, destroyed; nothing in use is ever gone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from control_plane.provision.fleet import FleetLayer, fleet_layer
from control_plane.provision.settings import Layer, Settings
from tests.lab.cluster import Cluster
from tests.lab.engine import Engine, Failed, Project
from tests.provision.declared import declared_of, edited, read_files, with_firmware
from tests.provision.test_on_the_server import management_node, open_wave
from tests.stacks.moody import moody
from tests.stacks.site import below, checkout
from tests.stacks.waiting import eventually, kill_session

pytestmark = pytest.mark.lab("pulumi")

UP = ("up", "--yes", "--skip-preview")
Files = Mapping[str, bytes]


def other_pool(path: str, data: bytes) -> bytes:
    return data.replace(b"port: 3333", b"port: 3334") if path.startswith("owners/") else data


class Stack:
    """A checkout with the fleet stack of the lab site, on a platform layer that stands."""

    def __init__(self, project: Project, inventory: Path, cluster: Cluster) -> None:
        self.project, self.inventory, self.cluster = project, inventory, cluster

    def write(self, *edits: Callable[[str, bytes], bytes]) -> Files:
        """The example's inventory with these edits, in place of what was there."""
        files = edited(read_files(), *edits)
        shutil.rmtree(self.inventory, ignore_errors=True)
        for path, data in files.items():
            target = self.inventory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return files

    def declare(self, *edits: Callable[[str, bytes], bytes]) -> FleetLayer:
        """Write the inventory; what the layer has to be."""
        settings = Settings(site="lab", layer=Layer.FLEET, namespace=self.cluster.namespace)
        return fleet_layer(declared_of(self.write(*edits), "lab"), settings, commit=None)

    def up(self) -> str:
        return self.project.run(*UP)

    def settled(self) -> None:
        """The next preview has nothing to do."""
        self.project.run("preview", "--expect-no-changes")

    def uids(self, *kinds: str) -> dict[str, str]:
        """What there is, of ours: by kind and name."""
        found = self.cluster.json("get", ",".join(kinds))["items"]
        return {
            f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["uid"]
            for one in found
            if one["metadata"]["name"] != "kube-root-ca.crt"
        }

    def pointer(self) -> Any:
        return self.cluster.json("get", "site", "lab")["spec"]

    def suspended(self) -> dict[str, bool]:
        """Of each Job whether it waits."""
        found = self.cluster.json("get", "jobs")["items"]
        return {one["metadata"]["name"]: one["spec"]["suspend"] for one in found}

    def job(self, name: str) -> Any:
        return self.cluster.json("get", "job", name)


def names(layer: FleetLayer, *kinds: str) -> set[str]:
    return {
        f"{one['kind']}/{one['metadata']['name']}" for one in layer.objects if one["kind"] in kinds
    }


def shards(layer: FleetLayer) -> set[str]:
    """What does not depend on the image."""
    waves = (wave for bundle in layer.bundles for wave in bundle.waves)
    return {f"ConfigMap/{one['metadata']['name']}" for wave in waves for one in wave.shards}


def first_job(layer: FleetLayer) -> str:
    return str(layer.bundles[0].waves[0].job["metadata"]["name"])


@pytest.fixture
def stack(engine: Engine, cluster: Cluster, tmp_path: Path) -> Iterator[Stack]:
    below(cluster)
    inventory = tmp_path / "inventory"
    made = Stack(checkout(tmp_path / "checkout", engine, inventory), inventory, cluster)
    made.project.run("stack", "init", "lab.fleet")
    made.project.run("config", "set", "gridplane:namespace", cluster.namespace)
    yield made
    # Of the whole cluster, and so the next test's too.
    cluster.run("delete", "priorityclass", "gridplane-firmware", "--ignore-not-found")


def test_up_makes_all_of_it_and_a_second_nothing(stack: Stack) -> None:
    layer = stack.declare(with_firmware())
    stack.up()
    stack.settled()
    kinds = ("FleetRevision", "Site", "Job", "ConfigMap")
    assert set(stack.uids("fleetrevisions", "sites", "jobs", "configmaps")) == names(layer, *kinds)
    assert stack.pointer()["revision"] == layer.revision["metadata"]["name"]
    assert stack.project.outputs() == {
        "revision": layer.revision["metadata"]["name"],
        "jobs": list(layer.job_names),
        "pastJobs": [],
    }
    assert set(stack.suspended().values()) == {True}
    # What is not told is not touched: neither does the next `up` put it back.
    stack.cluster.run("patch", "site", "lab", "--type=merge", "-p", '{"spec":{"mode":"enforce"}}')
    stack.settled()
    stack.project.run("refresh", "--yes", "--skip-preview")
    stack.up()
    assert stack.pointer()["mode"] == "enforce"


def test_what_is_at_work_stays_whatever_is_declared_next(stack: Stack) -> None:
    kinds = ("jobs", "configmaps", "fleetrevisions")
    old = stack.declare(with_firmware())
    stack.up()
    opened = first_job(old)
    open_wave(stack.cluster, opened)
    stack.settled()
    kept = stack.uids(*kinds)

    # Another pool while a wave runs: another revision, and the same Jobs.
    newer = stack.declare(with_firmware(), other_pool)
    stack.up()
    now = stack.uids(*kinds)
    assert kept.items() <= now.items()
    assert now.keys() - kept.keys() == {f"FleetRevision/{newer.revision['metadata']['name']}"}
    assert stack.pointer()["revision"] == newer.revision["metadata"]["name"]

    # Another image, after a refresh has read that the wave is open: other Jobs, and none of them is.
    stack.project.run("refresh", "--yes", "--skip-preview")
    stack.project.run("config", "set", "gridplane:image", "gridplane:2")
    stack.up()
    states = stack.suspended()
    assert states.pop(opened) is False
    assert (len(states), set(states.values())) == (2 * len(old.job_names) - 1, {True})

    # Another version: another bundle beside the old one.
    replaced = stack.declare(with_firmware("2026.2"), other_pool)
    stack.up()
    now = stack.uids(*kinds)
    assert kept.items() <= now.items()
    assert shards(replaced) <= now.keys()
    assert stack.job(opened)["status"]["active"] == 1

    # Back to the first: its revision is there still, and its Jobs are as they were left.
    stack.project.run("config", "rm", "gridplane:image")
    assert stack.declare(with_firmware()) == old
    stack.up()
    stack.settled()
    assert kept.items() <= stack.uids(*kinds).items()
    assert stack.pointer()["revision"] == old.revision["metadata"]["name"]
    assert stack.suspended()[opened] is False, "nobody suspends what is at work"


def test_a_job_that_has_ended_is_not_run_again(stack: Stack) -> None:
    cluster = stack.cluster
    node = f"mgmt-{cluster.namespace}"
    cluster.run("create", "-f", "-", stdin=json.dumps(management_node(node)))
    try:
        layer = stack.declare(with_firmware())
        stack.up()
        name = first_job(layer)
        open_wave(cluster, name)
        cluster.wait("condition=Complete", f"job/{name}")
        before = stack.uids("jobs")
        stack.project.run("refresh", "--yes", "--skip-preview")
        stack.settled()
        stack.up()
        assert stack.uids("jobs") == before
        pods = cluster.json("get", "pods", "-l", f"batch.kubernetes.io/job-name={name}")["items"]
        assert len(pods) == 1, "it ran once"
    finally:
        cluster.run("delete", "node", node, "--wait=false")


def test_destroy_leaves_the_hardware_its_declaration(stack: Stack) -> None:
    layer = stack.declare(with_firmware())
    stack.up()
    before = stack.uids("fleetrevisions", "sites", "jobs", "configmaps")
    stack.project.run("destroy", "--yes", "--skip-preview")
    assert stack.uids("fleetrevisions", "sites", "jobs", "configmaps") == before
    # And who comes back takes it up as it is.
    stack.up()
    stack.settled()
    assert stack.uids("fleetrevisions", "sites", "jobs", "configmaps") == before
    assert stack.pointer()["revision"] == layer.revision["metadata"]["name"]


def test_an_update_that_was_killed_is_taken_up_where_it_was(stack: Stack, tmp_path: Path) -> None:
    layer, project = stack.declare(with_firmware()), stack.project
    log = project.folder / "up.log"
    # Half-way it is kept waiting, or it might be through before we are.
    with moody(stack.cluster.kubeconfig, tmp_path, [429] * 1_000, every=1, after=16) as (
        server,
        to,
    ):
        below(stack.cluster, to)
        with log.open("w") as out, subprocess.Popen(
            ["pulumi", "--non-interactive", *UP],  # noqa: S607 - PATH is the lab's
            cwd=project.folder, env=project.environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        ) as going:  # fmt: skip
            try:
                eventually(lambda: server.refused, "a part of it is made", 120)
                # While it is under way nobody else gets in.
                with pytest.raises(Failed, match="locked"):
                    stack.up()
            finally:
                kill_session(going.pid)
    below(stack.cluster)
    made = stack.uids("jobs", "configmaps")
    project.run("cancel", "--yes")
    stack.up()
    stack.settled()
    after = stack.uids("jobs", "configmaps")
    assert made, "nothing was made before it was killed"
    assert made.items() <= after.items(), "what was made is not made anew"
    assert set(after) == names(layer, "Job", "ConfigMap")
    assert set(stack.suspended().values()) == {True}


def test_an_api_server_that_throttles_is_waited_for_and_one_that_fails_is_told(
    stack: Stack, tmp_path: Path
) -> None:
    layer = stack.declare(with_firmware())
    own = stack.cluster.kubeconfig
    with moody(own, tmp_path, [429, 429, 429, 500], every=4) as (server, kubeconfig):
        below(stack.cluster, kubeconfig)
        with pytest.raises(Failed, match="not in the mood"):
            stack.up()
        assert server.is_calm, server.refused
        stack.up()
        stack.settled()
    below(stack.cluster)
    kinds = ("FleetRevision", "Site", "Job", "ConfigMap")
    before = stack.uids("fleetrevisions", "sites", "jobs", "configmaps")
    assert set(before) == names(layer, *kinds)
    # Another way to the same cluster: no object is replaced.
    stack.up()
    assert stack.uids("fleetrevisions", "sites", "jobs", "configmaps") == before


def test_an_invalid_inventory_makes_nothing(stack: Stack) -> None:
    def loud(path: str, data: bytes) -> bytes:
        return data.replace(b"power_mode: normal", b"power_mode: loud")

    stack.write(with_firmware(), loud)
    with pytest.raises(Failed, match=r"inventory/profiles/[a-z-]+\.yaml:\d+:\d+: error\[E\d+\]"):
        stack.up()
    assert stack.uids("fleetrevisions", "sites", "jobs", "configmaps") == {}
