"""What a stack of gridplane is made of, in small: an explicit provider, a ConfigMap, a suspended Job."""

import os
import sys

import pulumi
import pulumi_kubernetes as k8s

config = pulumi.Config()
namespace = config.require("namespace")
provider = k8s.Provider(
    "lab",
    kubeconfig=os.environ["KUBECONFIG"],
    cluster_identifier="lab",
    namespace=namespace,
)
options = pulumi.ResourceOptions(provider=provider)
settings = k8s.core.v1.ConfigMap(
    "settings",
    metadata={"name": "settings"},
    data={"message": config.require("message")},
    immutable=True,
    opts=options,
)
wave = k8s.batch.v1.Job(
    "wave",
    # The provider waits for a Job to end, and this one does not begin.
    metadata={"name": "wave", "annotations": {"pulumi.com/skipAwait": "true"}},
    spec={
        "suspend": True,
        "completions": 2,
        "completion_mode": "Indexed",
        "template": {
            "spec": {
                "restart_policy": "Never",
                "containers": [{"name": "main", "image": "lab.gridplane.dev/pause:1"}],
            }
        },
    },
    opts=pulumi.ResourceOptions(
        provider=provider, depends_on=[settings], ignore_changes=["spec.suspend"]
    ),
)
pulumi.export("python", sys.prefix)
pulumi.export("job", wave.metadata["name"])
