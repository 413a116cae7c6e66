"""What a firmware Job's pods are: one runner a shard, on management hosts, with as little as it needs.

It reads its shard, its bundle, device passwords by name, and its own grant; of the cluster it may write the
journal of grants and nothing else; it reaches the API server, miners and the store of images only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from control_plane.core.errors import DeclarationError
from control_plane.core.firmware import Bundle
from control_plane.core.firmware_job import APP, NAME_LABEL, WORK_VOLUME
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.text import read_yaml
from control_plane.provision.manifests import Manifest, networks_of
from control_plane.provision.site import DeclaredSite

WORK_FOLDER: Final = "/etc/gridplane/firmware"
"""Where a pod finds `bundle.json` and its shards."""
PASSWORDS_FOLDER: Final = "/etc/gridplane/passwords"
"""Where it finds `env:NAME` as the file NAME: what is in the environment is in every crash report."""
PASSWORDS: Final = "gridplane-devices"
"""The Secret of the controller; a pod sees the keys that its bundle names."""
_ROLE: Final = {"gridplane.dev/role": "management"}
CACHE_FOLDER: Final = "/var/cache/gridplane"
"""Where it keeps the images that it was sent: one for each control board."""
PACE_FOLDER: Final = "/etc/gridplane/pace"
MAP: Final = "network-map.json"
"""At what pace simulated devices live, and where they answer."""
_CACHE_SIZE: Final = "2Gi"
_API_PORT: Final = 6443
_HTTP_PORT: Final = 80
_PRIORITY: Final = -10
"""Below every pod that names no class, GPU work above all; it evicts none of them."""


def pod_template(
    bundle: Bundle,
    image: str,
    labels: Mapping[str, str],
    reads: Sequence[str],
    *,
    store: str,
    pace: str | None,
) -> Manifest:
    """The pod of one index.

    Args:
        bundle: whose passwords it may read.
        image: what it runs.
        labels: of the pod.
        reads: ConfigMaps with its bundle and its shards; who makes a Job of the template adds those.
        store: where it finds images.
        pace: ConfigMap with the network map of simulated devices.
    """
    volumes: list[Manifest] = [
        {
            "name": WORK_VOLUME,
            "projected": {"sources": [{"configMap": {"name": name}} for name in reads]},
        },
        {"name": "images", "emptyDir": {"sizeLimit": _CACHE_SIZE}},
    ]
    mounts: list[Manifest] = [
        {"name": WORK_VOLUME, "mountPath": WORK_FOLDER, "readOnly": True},
        {"name": "images", "mountPath": CACHE_FOLDER},
    ]
    if password := _password(bundle):
        # Without a list of keys it would be all of them. One that is missing is reported, not waited for.
        items = [{"key": password, "path": password}]
        secret = {"secretName": PASSWORDS, "optional": True, "items": items}
        volumes.append({"name": "passwords", "secret": secret})
        mounts.append({"name": "passwords", "mountPath": PASSWORDS_FOLDER, "readOnly": True})
    env: list[Manifest] = []
    if pace is not None:
        volumes.append({"name": "pace", "configMap": {"name": pace}})
        mounts.append({"name": "pace", "mountPath": PACE_FOLDER, "readOnly": True})
        env.append({"name": "GRIDPLANE_NETWORK_MAP", "value": f"{PACE_FOLDER}/{MAP}"})
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "serviceAccountName": APP,
            "priorityClassName": APP,
            "restartPolicy": "Never",
            # Hosts that no curtailment switches off, and that tenants have no pods on.
            "nodeSelector": _ROLE,
            "tolerations": [
                *({"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in _ROLE),
                # At a small site the same host runs the API server.
                {
                    "key": "node-role.kubernetes.io/control-plane",
                    "operator": "Exists",
                    "effect": "NoSchedule",
                },
            ],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": dict(labels)},
                }
            ],
            # A flash that has begun is finished: longer than the longest of them.
            "terminationGracePeriodSeconds": 900,
            "securityContext": {
                "runAsNonRoot": True,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(image, mounts, store, env)],
            "volumes": volumes,
        },
    }


def _container(image: str, mounts: list[Manifest], store: str, env: list[Manifest]) -> Manifest:
    return {
        "name": "runner",
        "image": image,
        "args": [
            "firmware-job",
            "--work",
            WORK_FOLDER,
            "--passwords",
            PASSWORDS_FOLDER,
            "--images",
            store,
            "--cache",
            CACHE_FOLDER,
        ],
        "env": [
            {
                "name": "GRIDPLANE_JOB",
                "valueFrom": {
                    "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}
                },
            },
            *env,
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "volumeMounts": mounts,
    }


def _password(bundle: Bundle) -> str | None:
    """The key of the Secret that a bundle's machines open to; a file of a host is none."""
    credentials = bundle.credentials
    scheme, _, name = credentials.secret_ref.partition(":") if credentials else ("", "", "")
    return name if scheme == "env" else None


def runner_objects(declared: DeclaredSite, *, namespace: str) -> tuple[Manifest, ...]:
    """What the pods run as: an account that may read grants and nothing else, a class, a policy.

    Raises:
        DeclarationError: the site lacks a network that they have to reach.
    """
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": APP}
    rules = [
        {"apiGroups": ["gridplane.dev"], "resources": ["deviceoperations"], "verbs": ["get"]},
        # The journal. What it is granted is in the spec, which it cannot touch.
        {
            "apiGroups": ["gridplane.dev"],
            "resources": ["deviceoperations/status"],
            "verbs": ["patch"],
        },
    ]
    subjects = [{"kind": "ServiceAccount", "name": APP, "namespace": namespace}]
    where = {"name": APP, "namespace": namespace}
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": where,
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": where,
            "roleRef": role,
            "subjects": subjects,
        },
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": APP},
            "value": _PRIORITY,
            "preemptionPolicy": "Never",
            "description": "Firmware Jobs: gives way to every other pod, and evicts none.",
        },
        _network_policy(networks_of(declared), store_of(declared), where),
    )


def store_of(declared: DeclaredSite) -> str:
    """Where the site's Jobs find images.

    Raises:
        DeclarationError: the site does not say.
    """
    store = declared.site.firmware_store
    if store is None:
        path, problems = f"sites/{declared.site.id}/site.yaml", Problems()
        document = read_yaml(path, declared.files[path], problems)
        what = "profiles of this site ask for a firmware, and it names no firmware_store"
        if document is None:
            problems.add_file(errors.NO_STORE, path, what)
        else:
            problems.add(errors.NO_STORE, document, document.spot(), what)
        raise DeclarationError(problems.found())
    return store


def _network_policy(
    networks: Mapping[str, tuple[str, ...]], store: str, where: Manifest
) -> Manifest:
    names = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    place = urlsplit(store)
    port = place.port or _HTTP_PORT
    egress = [
        {
            "to": [names],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        },
        # The API server stands on its hosts' own addresses, so that no label finds it.
        {
            "to": _blocks(networks["management"]),
            "ports": [{"protocol": "TCP", "port": _API_PORT}],
        },
        {"to": _blocks(networks["miners"])},
        {"to": _blocks([f"{place.hostname}/32"]), "ports": [{"protocol": "TCP", "port": port}]},
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": where,
        "spec": {
            "podSelector": {"matchLabels": {NAME_LABEL: APP}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": egress,
        },
    }


def _blocks(cidrs: Iterable[str]) -> list[Manifest]:
    return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
