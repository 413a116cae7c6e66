"""Pretends. Simulated devices, faithful on the wire and in time: a product feature, not a test double.

Knows nothing of `drivers`: it is the other side of the wire, written from the vendors' protocols,
and clients that others wrote must be able to talk to it. Imported by `cli` and tests only.
Tests: `tests/simulator/`.
"""
