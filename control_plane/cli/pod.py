"""Whether this process runs in a pod, and in which namespace."""

from __future__ import annotations

from pathlib import Path

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def is_pod() -> bool:
    """Whether Kubernetes started this process."""
    return _OWN_NAMESPACE.exists()


def own_namespace() -> str:
    """The pod's; `default` elsewhere."""
    try:
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"
