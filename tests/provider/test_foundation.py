"""A cluster stays while a platform stands on it: the cluster itself is asked, before anything goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from control_plane.provider.resources import LET_GO
from control_plane.provision.admission import PLATFORM_POLICY, policies
from control_plane.simulator.hosts.sshd import Hall
from tests.provider.base import KUBEADM, LOGIN, RKE2, a_hall, agents, server
from tests.provider.engine import Client, a_provider, plain

SERVERS = ("s1", "s2", "s3")


@pytest.fixture
def hall() -> Iterator[Hall]:
    with a_hall(*SERVERS) as made:
        yield made


@pytest.fixture
def client(
    request: pytest.FixtureRequest, hall: Hall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    """Configured for the hall; what a test is parametrised with is what the person who destroys says."""
    monkeypatch.setenv(LET_GO, getattr(request, "param", ""))
    LOGIN.write_private_key_file(str(tmp_path / "login"))
    (tmp_path / "known_hosts").write_text(hall.known_hosts())
    with a_provider(tmp_path / "log") as made:
        made.configure(loginKey=str(tmp_path / "login"), knownHosts=str(tmp_path / "known_hosts"))
        yield made


def foundation(client: Client, hall: Hall, **more: Any) -> dict[str, Any]:
    """The state of a cluster's foundation, once its first server stands."""
    client.create("Server", server(hall, "s1", **more))
    given = agents(hall, servers=SERVERS, **more)
    inputs = {"site": "lab", "software": given["software"], "servers": given["servers"]}
    made = client.create("Foundation", inputs)
    assert (made.id, plain(made.properties)) == ("lab", inputs)
    assert plain(client.read("Foundation", inputs).properties) == inputs
    return inputs


def refusal(client: Client, state: dict[str, Any]) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        client.delete("Foundation", state)
    return str(cast("grpc.Call", raised.value).details())


@pytest.mark.parametrize("base", [KUBEADM, RKE2], ids=["kubeadm", "rke2"])
def test_a_cluster_goes_once_its_platform_is_gone(client: Client, hall: Hall, base: Any) -> None:
    state = foundation(client, hall, base=base)
    hall.cluster.policies.add(PLATFORM_POLICY)
    said = refusal(client, state)
    assert said.startswith("the cluster of lab is not let go of while lab.platform stands on it")
    assert "`pulumi destroy --stack lab.platform` first" in said
    assert f"{LET_GO}=lab.cluster pulumi destroy --stack lab.cluster" in said
    hall.cluster.policies.clear()
    client.delete("Foundation", state)


def test_not_knowing_is_not_gone(client: Client, hall: Hall) -> None:
    state = foundation(client, hall)
    hall.machines["s1"].cut()
    said = refusal(client, state)
    assert said.startswith("whether lab.platform stands on the cluster of lab cannot be told: ")
    assert f"{LET_GO}=lab.cluster" in said


@pytest.mark.parametrize("client", ["lab.cluster"], indirect=True)
def test_a_person_may_say_that_it_is_meant(client: Client, hall: Hall) -> None:
    state = foundation(client, hall)
    hall.cluster.policies.add(PLATFORM_POLICY)
    client.delete("Foundation", state)
    hall.machines["s1"].cut()
    client.delete("Foundation", state)


@pytest.mark.parametrize("client", ["ga-macon.cluster", "lab"], indirect=True)
def test_what_was_said_of_another_one_does_not_count(client: Client, hall: Hall) -> None:
    state = foundation(client, hall)
    hall.cluster.policies.add(PLATFORM_POLICY)
    assert "is not let go of" in refusal(client, state)


def test_the_servers_that_are_asked_are_those_of_now(client: Client, hall: Hall) -> None:
    state = foundation(client, hall)
    assert client.diff("Foundation", state, state).changes == 1
    fewer = {**state, "servers": state["servers"][:1]}
    assert list(client.diff("Foundation", state, fewer).diffs) == ["servers"]
    assert plain(client.update("Foundation", state, fewer).properties) == fewer


def test_every_platform_has_the_policy_that_is_looked_for() -> None:
    assert PLATFORM_POLICY in {p["metadata"]["name"] for p in policies((), namespace="gridplane")}
