"""Our Pulumi provider: few coarse resources, each a set of machines that is to be part of a cluster.

`server` speaks the engine's protocol, `resources` knows what each resource is made of, `members` brings
machines into a cluster over SSH and takes them out, `crew` does so for many at once. Only `server` and
`values` import Pulumi. Tests: `tests/provider`.
"""
