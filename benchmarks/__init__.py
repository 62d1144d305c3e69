"""Benchmarks of Holdfast beside its peers; `python do.py bench` runs them all."""
