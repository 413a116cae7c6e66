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
_EVENTS = 12
"""Lines of events that are shown with what did not come about."""
_QUOTED = 2_000
"""Characters of a refusal that are shown: it may repeat the whole object."""
_WITHIN_S = 180.0
"""How long a busy machine may take to what it has to do; who is done earlier waits no longer."""


class Refused(Exception):
    """The API server, or kubectl, said no."""


class Cluster:
    """One kubeconfig and one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace

    def run(self, *arguments: str, stdin: str = "", within_s: float = 60.0) -> str:
        done = subprocess.run(
            [
                find("kubectl"), f"--kubeconfig={self.kubeconfig}",
                f"--namespace={self.namespace}", *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise Refused((done.stderr.strip() or done.stdout.strip())[:_QUOTED])
        return done.stdout

    def wait(self, condition: str, *what: str, within_s: float = _WITHIN_S) -> None:
        """`kubectl wait --for=CONDITION`.

        Raises:
            Refused: it did not come to that; with what the pods and the latest events tell.
        """
        self._await("wait", f"--for={condition}", *what, within_s=within_s)

    def rolled_out(self, workload: str, *, within_s: float = _WITHIN_S) -> None:
        """Wait until all pods of a Deployment, or of `KIND/NAME`, are those of its template, and ready.

        Raises:
            Refused: as `wait`.
        """
        what = workload if "/" in workload else f"deployment/{workload}"
        self._await("rollout", "status", what, within_s=within_s)

    def _await(self, *arguments: str, within_s: float) -> None:
        try:
            self.run(*arguments, f"--timeout={within_s:.0f}s", within_s=within_s + 30)
        except Refused as refusal:
            pods = self.run("get", "pods", "-o", "wide")
            events = self.run("get", "events", "--sort-by=.lastTimestamp").splitlines()
            latest = "\n".join(events[-_EVENTS:])
            raise Refused(f"{refusal}\n{pods}\n{latest}") from refusal

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
