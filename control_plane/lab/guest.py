"""What a host of the lab finds on its disk when it first boots: pure, file by file.

Everything that a technician or an image would have put there; nothing is done to it at run time but
what `kubeadm` does itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from control_plane.lab.images import REGISTRY
from control_plane.lab.network import GATEWAY
from control_plane.lab.records import HostRecord

PAUSE_IMAGE = f"{REGISTRY}/pause:3.10.2"

_SEEN = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets where it finds something else (kubelet 1.36, `setupKernelTunables`). These belong to
the machine below: the host is shown what its kubelet wants to see, and nothing is set."""
_WANTED = "etc/systemd/system/{target}.wants/{unit}"
_KERNEL = """\
[Unit]
Description=Let this host's containers have cgroups, and its kubelet find the kernel settings it wants
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
ExecStart=/bin/sh /etc/lab-kernel.sh
"""
_KERNEL_SCRIPT = """\
# systemd-nspawn mounts the controllers of a v1 kernel read-only.
for controller in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$controller" || true; done
cd /etc/lab-sysctl && find . -type f | while read -r seen; do mount --bind "$seen" "/proc/sys/$seen"; done
"""
_KUBELET = """\
[Unit]
Description=kubelet
After=containerd.service
Wants=containerd.service
# kubeadm writes it: until then there is nothing to run.
ConditionPathExists=/var/lib/kubelet/config.yaml

[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
_CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # A host of the lab may not lower the score of a process below its own.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def files(
    host: HostRecord, everyone: Iterable[HostRecord], *, host_key: str, authorized_key: str
) -> Mapping[str, str]:
    """Path below the root → content.

    Args:
        host: whose.
        everyone: all hosts of the lab, for its `/etc/hosts`.
        host_key: its private SSH host key.
        authorized_key: the public key that may log in as root.
    """
    names = "".join(f"{other.address} {other.name}\n" for other in everyone)
    common = {
        "etc/hostname": f"{host.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{names}",
        # Nobody answers there, and no name leaves the lab; resolvers want one all the same.
        "etc/resolv.conf": f"nameserver {GATEWAY}\n",
        "etc/ssh/ssh_host_ed25519_key": host_key,
        "etc/ssh/sshd_config.d/lab.conf": (
            "HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nUseDNS no\n"
        ),
        "root/.ssh/authorized_keys": authorized_key,
        "etc/systemd/system/lab-kernel.service": _KERNEL,
        "etc/lab-kernel.sh": _KERNEL_SCRIPT,
        **{f"etc/lab-sysctl/{name}": f"{value}\n" for name, value in _SEEN.items()},
    }
    if host.is_bare:
        return common
    return common | {
        "etc/containerd/config.toml": _CONTAINERD,
        "etc/cni/net.d/10-lab.conflist": _pod_network(host),
        "etc/systemd/system/kubelet.service": _KUBELET,
    }


def links(host: HostRecord) -> Mapping[str, str]:
    """Path below the root → what the symbolic link there names: units that start at boot."""
    units = {"sysinit.target": "lab-kernel.service"}
    if not host.is_bare:
        units["multi-user.target"] = "kubelet.service"
    return {
        _WANTED.format(target=target, unit=unit): f"../{unit}" for target, unit in units.items()
    }


def _pod_network(host: HostRecord) -> str:
    """Each pod on a cable of its own; the site's namespace knows the way between hosts."""
    plugins = [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": host.pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    network = {"cniVersion": "0.4.0", "name": "lab", "plugins": plugins}
    return msgspec.json.format(msgspec.json.encode(network), indent=2).decode()
