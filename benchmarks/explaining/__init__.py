"""Parts of `benchmarks/explain.py`, each run in a process of its own."""
