"""Makes inventories: the bulk of the example fleet, and fleets of any size for benchmarks."""
