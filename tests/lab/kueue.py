"""Kueue's own controller beside an API lab: its manifests, its rights, its webhooks, as its release has them.

A pod's part is played here: the certificate that Kueue makes for itself is put where a kubelet would mount
it, and the Service of its webhooks leads to this machine, for nothing routes a cluster's addresses.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

from control_plane.lab import processes
from control_plane.lab.api import ApiLab
from control_plane.lab.ports import HOST, free_ports
from control_plane.lab.programs import find
from tests.lab.cluster import Cluster, Refused
from tests.lab.machines import until

NAMESPACE = "kueue-system"
ACCOUNT = "kueue-controller-manager"
WEBHOOKS = "kueue-webhook-service"
SECRET = "kueue-webhook-server-cert"
_LEFT_OUT = {"Deployment", "APIService", "ConfigMap"}
"""What stands for the pod, and what is asked through the API server's aggregator, which reaches no pod."""


def manifests(port: int) -> Iterator[dict[str, Any]]:
    """What its release installs, with webhooks that are called at a port of this machine."""
    folder = find("kueue").with_name("config") / "default"
    rendered = Cluster(Path("/dev/null")).run("kustomize", str(folder))
    for document in yaml.load_all(rendered, Loader=yaml.CSafeLoader):
        kind, name = document["kind"], document["metadata"]["name"]
        if kind in _LEFT_OUT or (kind == "Service" and name != WEBHOOKS):
            continue
        if kind == "Service":
            document["spec"] = {"type": "ExternalName", "externalName": "localhost"}
        for client in _clients(document):
            client["service"]["port"] = port
        yield document


def _clients(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Where the API server calls somebody."""
    for webhook in document.get("webhooks", ()):
        yield webhook["clientConfig"]
    conversion = document.get("spec", {}).get("conversion", {})
    if "webhook" in conversion:
        yield conversion["webhook"]["clientConfig"]


def start(lab: ApiLab) -> None:
    """Install Kueue and run it until it is ready; it ends with the lab."""
    webhooks, health = free_ports(2)
    everywhere = Cluster(lab.kubeconfig)
    _install(lab.kubeconfig, [*manifests(webhooks)])
    folder = lab.folder / "kueue"
    (folder / "certs").mkdir(parents=True)
    config = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f"{HOST}:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": HOST, "port": webhooks, "certDir": str(folder / "certs")},
        "leaderElection": {"leaderElect": False},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {"VisibilityOnDemand": False},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "kubeconfig").write_text(_as_itself(everywhere), encoding="utf-8")
    log = lab.log_of("kueue")
    processes.start(
        "kueue",
        [find("kueue"), f"--config={folder / 'config.json'}"],
        lab=lab.folder, log=log, environment={"KUBECONFIG": str(folder / "kubeconfig")},
    )  # fmt: skip
    until(lambda: _mounted(everywhere, folder / "certs"))
    try:
        until(lambda: _ready(health))
    except AssertionError as error:
        raise AssertionError(f"{error}: {processes.last_words(log)}") from error


def _install(kubeconfig: Path, things: list[dict[str, Any]]) -> None:
    """Kinds and namespaces first, then the rest, a namespace at a time."""

    def place(thing: dict[str, Any]) -> tuple[bool, str]:
        is_first = thing["kind"] in {"Namespace", "CustomResourceDefinition"}
        return not is_first, thing["metadata"].get("namespace", "default")

    for key, those in itertools.groupby(sorted(things, key=place), key=place):
        of = {"apiVersion": "v1", "kind": "List", "items": [*those]}
        Cluster(kubeconfig, key[1]).run("apply", "--server-side", "-f", "-", stdin=json.dumps(of))


def _as_itself(everywhere: Cluster) -> str:
    """A kubeconfig with the rights of its own service account, and no others."""
    token = everywhere.run("create", "token", ACCOUNT, f"--namespace={NAMESPACE}").strip()
    config = yaml.safe_load(everywhere.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": ACCOUNT, "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = ACCOUNT
    return json.dumps(config)


def _mounted(everywhere: Cluster, folder: Path) -> bool:
    try:
        secret = everywhere.json("get", "secret", SECRET, f"--namespace={NAMESPACE}")
    except Refused:
        return False
    data = secret.get("data", {})
    for name, value in data.items():
        (folder / name).write_bytes(base64.b64decode(value))
    return "tls.crt" in data


def _ready(port: int) -> bool:
    asked = HTTPConnection(HOST, port, timeout=2)
    try:
        asked.request("GET", "/readyz")
        return asked.getresponse().status == 200
    except OSError:
        return False
    finally:
        asked.close()
