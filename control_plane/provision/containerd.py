"""containerd's settings and the pod network of one machine: pure.

What the GPU operator needs and cannot break anything: CDI on, drop-ins read from where its toolkit puts
them. The toolkit may edit the file itself; whoever writes it again and again fights it, so it is shared
with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from control_plane.hosts.items import File
from control_plane.provision.cluster import Node, Software

UNIT: Final = "containerd.service"
_CONFIG: Final = "/etc/containerd/config.toml"
_MIRRORS: Final = "/etc/containerd/certs.d"
_CRI: Final = 'plugins."io.containerd.grpc.v1.cri"'
_PLUGINS: Final = {
    # Debian's package, which has all that a routed network takes; CNIs bring their own to the other place.
    "routed": "/usr/lib/cni",
    "external": "/opt/cni/bin",
}


def files(node: Node, software: Software) -> Iterator[File]:
    """Every file that containerd reads on a machine."""
    yield File(path=_CONFIG, content=_config(software), wakes=(UNIT,), is_shared=True)
    for registry, mirrors in sorted(software.registry_mirrors.items()):
        # Read at each pull: nothing has to be restarted.
        yield File(path=f"{_MIRRORS}/{registry}/hosts.toml", content=_hosts(registry, mirrors))
    if node.pods is not None:
        network = _pod_network(node.pods)
        yield File(path="/etc/cni/net.d/10-gridplane.conflist", content=network)


def _config(software: Software) -> str:
    """Version 2 of the format: containerd 1.6 and later read it, 2.x by converting it."""
    sandbox = f"  sandbox_image = {_text(software.pause_image)}\n" if software.pause_image else ""
    restricted = "  restrict_oom_score_adj = true\n" if software.restrict_oom_score_adj else ""
    by_systemd = "true" if software.cgroup_driver == "systemd" else "false"
    return f"""\
# Written by gridplane where it is missing or its declaration changes; edits of others stay until then.
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]

[{_CRI}]
{sandbox}{restricted}  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]

[{_CRI}.cni]
  bin_dir = "{_PLUGINS[software.cni]}"
  conf_dir = "/etc/cni/net.d"

[{_CRI}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[{_CRI}.containerd.runtimes.runc.options]
  SystemdCgroup = {by_systemd}

[{_CRI}.registry]
  config_path = "{_MIRRORS}"
"""


def _hosts(registry: str, mirrors: tuple[str, ...]) -> str:
    server = "registry-1.docker.io" if registry == "docker.io" else registry
    asked = "".join(
        f'\n[host.{_text(mirror)}]\n  capabilities = ["pull", "resolve"]\n' for mirror in mirrors
    )
    return f"server = {_text(f'https://{server}')}\n{asked}"


def _pod_network(pods: str) -> str:
    """Each pod on a cable of its own; the site's routers know the way between machines."""
    plugins: list[dict[str, Any]] = [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    network = {"cniVersion": "0.4.0", "name": "gridplane", "plugins": plugins}
    return msgspec.json.format(msgspec.json.encode(network), indent=2).decode() + "\n"


def _text(value: str) -> str:
    """A TOML string: JSON's are."""
    return msgspec.json.encode(value).decode()
