"""Benchmarks: the figures of the product, each beside a named peer in the same run."""
