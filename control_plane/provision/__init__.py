"""What a site's stacks are to hold: pure functions from the declaration to values.

Imported by `stacks`, `policy` and `cli`. No Pulumi, no Kubernetes, no SSH. Tests: `tests/provision/`.
"""
