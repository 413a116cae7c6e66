"""Objects, and the rules that each breaks: for the table as Python reads it, and for an API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from control_plane.provision.check import broken
from control_plane.provision.rules import rules

LISTED = "stratum+tcp://pool.example.com:3333"
FOREIGN = "stratum+tcp://evil.example.com:3333"
TABLE = rules(privileged={"gpu-operator"}, pools={LISTED})


@dataclass(frozen=True)
class Case:
    """One object, without a namespace."""

    id: str
    object: dict[str, Any]
    breaks: frozenset[str]

    def broken(self) -> frozenset[str]:
        return frozenset(rule.id for rule in broken(TABLE, self.object))


def _object(api_version: str, kind: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "case"}, **parts}


def _pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "lab.gridplane.dev/pause:1"}
    return {"restartPolicy": "Never", "containers": [container], **spec}


def _container(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "main", "image": "lab.gridplane.dev/pause:1", **more}]


def _job(deadline_s: int | None, **spec: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"suspend": True, "template": {"spec": _pod(**spec)}}
    if deadline_s is not None:
        made["activeDeadlineSeconds"] = deadline_s
    return made


def _deployment(**spec: Any) -> dict[str, Any]:
    labels = {"app": "case"}
    pod = {**_pod(**spec), "restartPolicy": "Always"}
    return {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def _breaks(*rules: str) -> frozenset[str]:
    return frozenset(rules)


_NONE = _breaks()
_ROOT = {"securityContext": {"privileged": True}}
CASES = (
    Case("a-job-with-a-deadline", _object("batch/v1", "Job", spec=_job(60)), _NONE),
    Case("a-job-without", _object("batch/v1", "Job", spec=_job(None)), _breaks("job-deadline")),
    Case(
        "a-cron-job-without",
        _object(
            "batch/v1",
            "CronJob",
            spec={
                "schedule": "0 * * * *",
                "suspend": True,
                "jobTemplate": {"spec": {"template": {"spec": _pod()}}},
            },
        ),
        _breaks("cron-job-deadline"),
    ),
    Case(
        "a-cron-job-that-is-root",
        _object(
            "batch/v1",
            "CronJob",
            spec={
                "schedule": "0 * * * *",
                "suspend": True,
                "jobTemplate": {"spec": _job(60, containers=_container(**_ROOT))},
            },
        ),
        _breaks("privileged-pod"),
    ),
    Case("a-pod", _object("v1", "Pod", spec=_pod()), _NONE),
    Case(
        "a-pod-that-is-root",
        _object("v1", "Pod", spec=_pod(containers=_container(**_ROOT))),
        _breaks("privileged-pod"),
    ),
    Case(
        "a-pod-among-the-host's-processes",
        _object("v1", "Pod", spec=_pod(hostPID=True)),
        _breaks("privileged-pod"),
    ),
    Case(
        "root-in-the-beginning-is-root",
        _object(
            "apps/v1",
            "Deployment",
            spec=_deployment(initContainers=[{"name": "first", "image": "x", **_ROOT}]),
        ),
        _breaks("privileged-pod"),
    ),
    Case("a-deployment", _object("apps/v1", "Deployment", spec=_deployment()), _NONE),
    Case(
        "a-password-in-the-environment",
        _object(
            "v1",
            "Pod",
            spec=_pod(containers=_container(env=[{"name": "MINER_PASSWORD", "value": "root"}])),
        ),
        _breaks("plain-secret-in-pod"),
    ),
    Case(
        "a-password-by-reference",
        _object(
            "v1",
            "Pod",
            spec=_pod(
                containers=_container(
                    env=[
                        {
                            "name": "MINER_PASSWORD",
                            "valueFrom": {"secretKeyRef": {"name": "devices", "key": "miner"}},
                        },
                    ]
                )
            ),
        ),
        _NONE,
    ),
    Case("a-map", _object("v1", "ConfigMap", data={"settings": "hello"}), _NONE),
    Case(
        "a-map-with-a-token",
        _object("v1", "ConfigMap", data={"api_token": "x"}),
        _breaks("plain-secret-in-map"),
    ),
    Case(
        "a-map-with-the-owner's-pool",
        _object("v1", "ConfigMap", data={"shard": f'[{{"url":"{LISTED}"}}]'}),
        _NONE,
    ),
    Case(
        "a-map-with-both-pools",
        _object("v1", "ConfigMap", data={"one": LISTED, "two": f"{LISTED}, {FOREIGN}"}),
        _breaks("pool-not-listed"),
    ),
    Case(
        "a-pod-that-is-told-of-another-pool",
        _object(
            "v1", "Pod", spec=_pod(containers=_container(env=[{"name": "POOL", "value": FOREIGN}]))
        ),
        _breaks("pool-not-listed-in-pod"),
    ),
    Case(
        "a-secret-in-a-stack",
        _object("v1", "Secret", stringData={"user": "root"}),
        _breaks("secret-in-stack"),
    ),
)
