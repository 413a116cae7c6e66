"""The rules of a site's stacks: one table, read by the policy pack and by the API server.

`rules` is about what is written, `KEPT` about what is deleted. The pack applies both to a stack before
anything is made; `admission` makes both into policies that hold for whoever writes, with whatever tool.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from control_plane.core.fleet import Site
from control_plane.provision.predicates import (
    AtLeast,
    Both,
    Either,
    Empty,
    Every,
    KeysUnlike,
    Never,
    OnlyListed,
    Predicate,
    Unlike,
    Without,
    Zero,
)

RESOURCES_MAX: Final = 300
"""Of one stack. A program takes 3.5 ms and 60 KB for each, a refresh far more."""

SYSTEM_NAMESPACES: Final = frozenset({"kube-system"})
"""Where a cluster's own privileged pods are."""


class Kind(msgspec.Struct, frozen=True):
    """A kind of object, in the words of both sides."""

    group: str
    """`""` for the core."""
    version: str
    resource: str
    name: str

    @property
    def api_version(self) -> str:
        """As a manifest says it."""
        return f"{self.group}/{self.version}" if self.group else self.version


POD: Final = Kind("", "v1", "pods", "Pod")
JOB: Final = Kind("batch", "v1", "jobs", "Job")
CRON_JOB: Final = Kind("batch", "v1", "cronjobs", "CronJob")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
SECRET: Final = Kind("", "v1", "secrets", "Secret")
NAMESPACE: Final = Kind("", "v1", "namespaces", "Namespace")
DEPLOYMENT: Final = Kind("apps", "v1", "deployments", "Deployment")
DEFINITION: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"
)
POD_MAKERS: Final = (
    POD,
    DEPLOYMENT,
    Kind("apps", "v1", "statefulsets", "StatefulSet"),
    Kind("apps", "v1", "daemonsets", "DaemonSet"),
    JOB,
    CRON_JOB,
)
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_SECRET_NAME: Final = "(?i)(passw(or)?d|secret|token|credential|api_?key|private_?key)$"  # noqa: S105 - a pattern
_POOL_URL: Final = r"stratum2?\+[a-z]+://[^\s\"',\\]+"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Something that must hold of what is written."""

    id: str
    title: str
    why: str
    fix: str
    kinds: tuple[Kind, ...]
    check: Predicate
    of_pods: bool = False
    """Whether `check` is about the pod's spec, wherever the kind keeps it."""
    exempt: frozenset[str] = frozenset()
    """Namespaces in which it does not hold."""
    in_cluster: bool = True
    """Whether the API server applies it too."""
    everywhere: bool = False
    """Whether it does so in all namespaces, or in gridplane's own."""

    @property
    def message(self) -> str:
        """What a refused writer reads."""
        return f"gridplane {self.id}: {self.title}; {self.fix}"


def rules(*, privileged: Collection[str], pools: Collection[str]) -> tuple[Rule, ...]:
    """The table.

    Args:
        privileged: namespaces whose pods may be privileged, beside the cluster's own.
        pools: canonical addresses of the pools that the owners of this site list.
    """
    pool_list = tuple(sorted(pools))
    return (
        Rule(
            id="job-deadline",
            title="a Job has no deadline",
            why="A Job that hangs holds its devices, and what waits for them, for good.",
            fix="set spec.activeDeadlineSeconds",
            kinds=(JOB,),
            check=AtLeast("spec.activeDeadlineSeconds", 1),
        ),
        Rule(
            id="cron-job-deadline",
            title="a CronJob makes Jobs without a deadline",
            why="As above, once for each of its times.",
            fix="set spec.jobTemplate.spec.activeDeadlineSeconds",
            kinds=(CRON_JOB,),
            check=AtLeast("spec.jobTemplate.spec.activeDeadlineSeconds", 1),
        ),
        Rule(
            id="privileged-pod",
            title="a privileged pod outside of the namespaces that are for them",
            why="It is root on its host, and so on everything that the host reaches.",
            fix="drop privileged, hostPID and hostIPC, or run it where the GPU operator runs",
            kinds=POD_MAKERS,
            of_pods=True,
            check=Both(
                (
                    Never("hostPID"),
                    Never("hostIPC"),
                    Every(_CONTAINERS, Never("securityContext.privileged")),
                )
            ),
            exempt=SYSTEM_NAMESPACES | frozenset(privileged),
            everywhere=True,
        ),
        Rule(
            id="plain-secret-in-pod",
            title="a secret stands in a pod's environment as plain text",
            why="Whoever may read a pod, a state file or a plan reads it.",
            fix="name a Secret with valueFrom.secretKeyRef",
            kinds=POD_MAKERS,
            of_pods=True,
            check=Every(
                _CONTAINERS, Every(("env",), Either((Unlike("name", _SECRET_NAME), Empty("value"))))
            ),
        ),
        Rule(
            id="plain-secret-in-map",
            title="a ConfigMap has a key that is named like a secret",
            why="ConfigMaps are readable for everybody who reads pods, and encrypted nowhere.",
            fix="keep it in a Secret that is made outside of the stacks",
            kinds=(CONFIG_MAP,),
            check=Both(
                (KeysUnlike("data", _SECRET_NAME), KeysUnlike("binaryData", _SECRET_NAME))
            ),
        ),
        Rule(
            id="secret-in-stack",
            title="a stack declares the content of a Secret",
            why="Device passwords never pass through Pulumi: they would be in its state.",
            fix="make the Secret outside of the stacks and refer to it by name",
            kinds=(SECRET,),
            check=Both((Without("data"), Without("stringData"))),
            in_cluster=False,
        ),
        Rule(
            id="pool-not-listed",
            title="a pool that no owner of this site lists",
            why="A foreign pool earns for somebody else, and is how miners are stolen.",
            fix="correct the address, or add the pool to its owner in inventory/owners",
            kinds=(CONFIG_MAP,),
            check=OnlyListed("data", _POOL_URL, pool_list, is_mapping=True),
        ),
        Rule(
            id="pool-not-listed-in-pod",
            title="a pod is told of a pool that no owner of this site lists",
            why="As above.",
            fix="correct the address, or add the pool to its owner in inventory/owners",
            kinds=POD_MAKERS,
            of_pods=True,
            check=Every(
                _CONTAINERS, Every(("env",), OnlyListed("value", _POOL_URL, pool_list))
            ),
        ),
    )  # fmt: skip


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not deleted by accident."""

    id: str
    title: str
    fix: str
    kinds: tuple[Kind, ...]
    group: str | None = None
    """Of definitions: only those of this group."""
    names: tuple[str, ...] = ()
    """Only these; all where none is named. Of namespaces: gridplane's own."""
    is_namespaced: bool = True
    """Whether it is about objects in gridplane's namespace."""
    by_cluster: bool = False
    """Whether the controller, the garbage collector and the end of the namespace may delete it."""
    while_declared: bool = False
    """Whether it is kept only while a `Site` stands in gridplane's namespace."""
    idle: Predicate | None = None
    """It may go where this holds of it."""
    protected: bool = False
    """Whether a stack that declares it has to protect it."""

    @property
    def message(self) -> str:
        """What a refused deleter reads."""
        return f"gridplane {self.id}: {self.title}; {self.fix}"


GROUP: Final = "gridplane.dev"
GATE: Final = "gridplane-platform"
"""The ConfigMap that goes first when the platform is taken away: where it may not, nothing goes."""
CONTROLLER: Final = "gridplane-controller"
NODE_AGENT: Final = "gridplane-node-agent"
ALLOW_DELETE: Final = f"{GROUP}/allow-delete"
"""Annotation: an object that carries its own name there may be deleted."""


def _own(resource: str, name: str) -> Kind:
    return Kind(GROUP, "v1alpha1", resource, name)


KEPT: Final = (
    Keep(
        id="keep-definitions",
        title="with this definition every object of its kind is deleted",
        fix=f"annotate it with {ALLOW_DELETE}=NAME first, if all of them are meant",
        kinds=(DEFINITION,),
        group=GROUP,
        is_namespaced=False,
        protected=True,
    ),
    Keep(
        id="keep-state",
        title="this is a site's memory: holds, pins, open work, what devices stand on",
        fix=f"leave it to the controller, or annotate it with {ALLOW_DELETE}=NAME",
        kinds=(
            _own("stateshards", "StateShard"),
            _own("fleetrevisions", "FleetRevision"),
            _own("deviceoperations", "DeviceOperation"),
            _own("overlays", "Overlay"),
            _own("rollouts", "Rollout"),
        ),
        by_cluster=True,
    ),
    Keep(
        id="keep-work",
        title="this Job is at work, perhaps in the middle of a flash",
        fix=f"wait for it, or suspend it; {ALLOW_DELETE}=NAME lets it go as it is",
        kinds=(JOB,),
        by_cluster=True,
        idle=Zero("status.active"),
    ),
    Keep(
        id="keep-platform",
        title="a Site is declared here, and its controller would go",
        fix="delete the Site first: its machines stay as they are, and nobody keeps them so",
        kinds=(CONFIG_MAP, DEPLOYMENT),
        names=(GATE, CONTROLLER),
        by_cluster=True,
        while_declared=True,
    ),
    Keep(
        id="keep-namespace",
        title="a Site is declared in this namespace, with its state",
        fix="delete the Site first: its machines stay as they are, and nobody keeps them so",
        kinds=(NAMESPACE,),
        is_namespaced=False,
        while_declared=True,
        protected=True,
    ),
)


def pools_of(site: Site) -> frozenset[str]:
    """What the owners of a site list."""
    return frozenset(pool.url for owner in site.owners.values() for pool in owner.pools)
