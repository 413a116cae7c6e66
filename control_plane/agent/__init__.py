"""The small process on each GPU node: it alone writes to the node's GPUs, and tells of them.

It follows one object, the `GpuNode` of its own node, and obeys what is granted there. Without contact it
keeps the last grant and only lowers. It imports no Kubernetes client: forty megabytes on each node are
enough for it.
Tests: `tests/agent/`. Why it is so: docs/decisions/0024-node-agent.md.
"""
