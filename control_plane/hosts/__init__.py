"""Machines over SSH: a transport with pinned host keys, and items that are brought about, not scripted.

`connection` is the seam (its twin is `simulator/hosts`), `ssh` its real side, `keys` who a host is. `items`
are values that say what is wanted of a machine, `converge` reads first and writes what differs. Nothing here
knows Kubernetes or Pulumi. Tests: `tests/hosts`.
"""
