"""The backends there are, by the name that a declaration has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control_plane.provision.backend import ClusterBackend
from control_plane.provision.kubeadm import Kubeadm
from control_plane.provision.rke2 import Rke2

BACKENDS: Final[Mapping[str, ClusterBackend]] = {
    backend.name: backend for backend in (Kubeadm(), Rke2())
}
