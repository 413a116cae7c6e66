"""Objects of a cluster as Pulumi resources: any kind, as its manifest says, and read back once it is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from control_plane.provision.chart_docs import KeptDoc
from control_plane.provision.readback import pruned, said_of

PLUGIN = "kubernetes"


def provider(
    name: str, kubeconfig: pulumi.Input[str], identifier: pulumi.Input[str]
) -> k8s.Provider:
    """The one way to a site's cluster.

    Args:
        name: of the resource.
        kubeconfig: secret.
        identifier: what makes it this cluster. Without it any change of the kubeconfig (an address, a renewed
            certificate) would replace every object.
    """
    return k8s.Provider(
        name,
        kubeconfig=kubeconfig,
        cluster_identifier=identifier,
        enable_server_side_apply=True,
        # Changed where it is; a new one beside it would have the name that is taken.
        enable_config_map_mutable=True,
        # A cluster that stands already is adopted, and what was left by a destroy is taken up again.
        upsert_existing_objects=True,
    )


class Manifest(pulumi.CustomResource):
    """One object of any kind."""

    kept: pulumi.Output[bool]
    """Known once the object is as it was sent; raises where the API server dropped a part of it."""

    def __init__(
        self, name: str, manifest: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Declare it.

        Args:
            name: of the resource.
            manifest: the object; keys as Kubernetes spells them.
            opts: the provider above all.
        """
        super().__init__(
            _token(manifest["apiVersion"], manifest["kind"]), name, dict(manifest), opts
        )
        live = pulumi.Output.all(**{key: getattr(self, key) for key in manifest})
        about = f"{manifest['kind']} {manifest['metadata']['name']}"
        # What is ignored belongs to somebody else.
        others = frozenset(opts.ignore_changes or ()) if opts else frozenset()
        self.kept = live.apply(lambda found: held(about, manifest, _spelled(found), others=others))


class Live(pulumi.CustomResource):
    """One object that somebody else makes, read once that is known to have happened."""

    spec: pulumi.Output[Any]

    def __init__(
        self,
        name: str,
        about: KeptDoc,
        made: pulumi.Output[Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Read it.

        Args:
            name: of the resource.
            about: which object; of no namespace.
            made: known once it is there.
            opts: the provider above all.
        """
        inputs = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "metadata": None,
            "spec": None,
        }
        options = pulumi.ResourceOptions(id=made.apply(lambda _: about.name))
        super().__init__(
            _token(about.api_version, about.kind), name, inputs,
            pulumi.ResourceOptions.merge(opts, options),
        )  # fmt: skip


def _spelled(found: Any) -> Any:
    """As Kubernetes spells it: of a definition's extensions the provider hands back `x_kubernetes_...`."""
    if isinstance(found, Mapping):
        return {
            key.replace("_", "-") if key.startswith("x_kubernetes_") else key: _spelled(value)
            for key, value in found.items()
        }
    return [_spelled(one) for one in found] if isinstance(found, list) else found


def _token(api_version: str, kind: str) -> str:
    """As the classes have it that are generated for the kinds of Kubernetes itself."""
    return f"{PLUGIN}:{api_version if '/' in api_version else f'core/{api_version}'}:{kind}"


def held(
    name: str,
    sent: Mapping[str, Any],
    kept: Mapping[str, Any],
    *,
    others: Collection[str] = (),
) -> bool:
    """True.

    Args:
        name: of the object, for people.
        sent: what was sent.
        kept: what is there.
        others: paths that somebody else may write.

    Raises:
        pulumi.RunError: the API server keeps it otherwise than it was sent.
    """
    lost = [path for path in pruned(sent, kept) if path not in others]
    if lost:
        raise pulumi.RunError(said_of(name, lost))
    return True
