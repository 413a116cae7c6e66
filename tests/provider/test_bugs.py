"""What no error of the tree covers: told as a bug of ours, with its place, and without anybody's secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import grpc
import pytest

from control_plane.hosts.connection import Connection, Target
from control_plane.hosts.ssh import Ssh
from control_plane.provider.bugs import Bug, told
from control_plane.provider.resources import Agents, PartlyDone, Server
from tests.provider.base import a_crew, a_hall, agents, node, server
from tests.provider.engine import UNKNOWN, Client, a_provider

TOKEN = "abcdef.0123456789abcdef"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIO\nqwerty\n-----END EC PRIVATE KEY-----"
BASE64 = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSURC/RENDQWVTZ0F3SUJBZ0lJRlh1"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with a_provider(tmp_path_factory.mktemp("provider") / "log") as made:
        made.configure()
        yield made


def words(call: Callable[..., Any], *given: Any, **more: Any) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        call(*given, **more)
    return str(cast("grpc.Call", raised.value).details())


@pytest.mark.parametrize(
    ("call", "kind", "given", "said"),
    [
        (
            "delete", "Agents", ({"nodes": {}, "servers": []},),
            r"missing required field `software` \(ValidationError at provider/resources\.py:\d+\)",
        ),
        (
            "update", "Agents", ({"x": 1}, {"nodes": {}, "servers": [], "software": {}}),
            r"\(ValidationError at provider/resources\.py:\d+\)",
        ),
        (
            "diff", "Kubeconfig", ({"servers": []}, {"servers": []}),
            r"'software' \(KeyError at provider/resources\.py:\d+\)",
        ),
    ],
    ids=["a state that lost a part", "inputs that were never checked", "a key that is not there"],
)  # fmt: skip
def test_a_bug_says_of_what_resource_and_where(
    client: Client, call: str, kind: str, given: tuple[Any, ...], said: str
) -> None:
    told_words = words(getattr(client, call), kind, *given)
    assert told_words.startswith(f"gridplane:k8s:{kind} it: a bug of ours: ")
    assert re.search(said, told_words)


def test_a_bug_at_the_settings_is_one_too(client: Client) -> None:
    told_words = words(client.configure, atOnce="many")
    assert told_words.startswith("the provider's settings: a bug of ours: ")
    assert re.search(r"'many' \(ValueError at provider/server\.py:\d+\)", told_words)


def test_a_value_that_is_not_known_yet_is_no_bug(client: Client) -> None:
    told_words = words(client.diff, "Kubeconfig", {}, {"software": UNKNOWN})
    assert told_words.startswith("an input is not known before another resource is made")


def test_a_bug_at_one_host_names_it_and_costs_the_others_nothing() -> None:
    with a_hall("s1", "n1", "n2") as hall:
        crew = a_crew(hall)
        Server().bring(crew, None, server(hall, "s1"))
        crew._opener = _Torn(crew._opener, "n1")
        both = agents(hall, node(hall, "n1"), node(hall, "n2"), servers=["s1"])
        with pytest.raises(PartlyDone) as partly:
            Agents().bring(crew, None, both)
    [reason] = partly.value.reasons
    assert reason.startswith("host n1: a bug of ours: "), reason
    assert re.search(r"torn \*\*\*.*LookupError at provider/crew\.py:\d+", reason), reason
    assert partly.value.state["nodes"].keys() == {"n2"}


@pytest.mark.parametrize("secret", [TOKEN, PEM, BASE64, "0123456789abcdef" * 4])
def test_no_bug_tells_a_secret(secret: str) -> None:
    bug = told(KeyError(f"before {secret} after"), "it")
    assert isinstance(bug, Bug)
    assert "before *** after" in str(bug)
    for piece in secret.replace("/", "\n").splitlines():
        assert piece not in str(bug)


def test_a_long_message_is_cut_after_its_secrets_went() -> None:
    cut = str(told(ValueError("x " * 295 + TOKEN + " y" * 9_000), "it"))
    assert len(cut) < 1_000
    assert "abcdef" not in cut


class _Torn:
    """A way to machines that has a bug at one of them."""

    def __init__(self, way: Any, where: str) -> None:
        self._way: Ssh = way
        self._where = where

    def connect(self, target: Target) -> AbstractContextManager[Connection]:
        if target.name == self._where:
            raise LookupError(f"torn {TOKEN}")
        return self._way.connect(target)
