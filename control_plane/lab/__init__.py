"""A real Kubernetes on one machine: the place where what needs a cluster is shown and tested.

Hides how the programs are found, started, watched and stopped. Imported by `cli` and tests only; the
programs themselves are built by `make tools`. Tests: `tests/lab`.
"""
