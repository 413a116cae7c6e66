"""The guard: keeps a site below its caps by lowering machines, with everybody else away.

Its judgement is `core.guard`. Here are its files, its meters and its hands.
"""
