"""gridplane in a cluster: the engine with the API server as its declaration, its memory and its face.

Hides every word of Kubernetes but its objects, which are in `api/objects.py`. Imported by `cli` alone.
Tests: `tests/kube`; what depends on a real API server runs in the lab.
"""
