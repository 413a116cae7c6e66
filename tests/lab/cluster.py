"""kubectl as a test speaks to it."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from control_plane.lab.programs import find

_numbers = itertools.count(1)
_QUOTED = 2_000
"""Characters of a refusal that are shown: it may repeat the whole object."""


class Refused(Exception):
    """The API server, or kubectl, said no."""


class Cluster:
    """One kubeconfig and one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace

    def run(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [
                find("kubectl"), f"--kubeconfig={self.kubeconfig}",
                f"--namespace={self.namespace}", *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise Refused((done.stderr.strip() or done.stdout.strip())[:_QUOTED])
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "-o", "json"))

    def apply(self, thing: Mapping[str, Any], *more: str) -> Any:
        """Server-side apply; what the server made of it.

        Raises:
            Refused: with the server's own words.
        """
        said = self.run(
            "apply", "--server-side", "--field-manager=test", "-f", "-", "-o", "json", *more,
            stdin=json.dumps(thing),
        )  # fmt: skip
        return json.loads(said)


@contextmanager
def a_namespace(kubeconfig: Path) -> Iterator[Cluster]:
    """kubectl, in a namespace that nobody else uses."""
    name = f"test-{next(_numbers)}"
    Cluster(kubeconfig).run("create", "namespace", name)
    yield Cluster(kubeconfig, name)
    Cluster(kubeconfig).run("delete", "namespace", name, "--wait=false")


def thing(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "gridplane.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }
