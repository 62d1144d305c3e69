"""A deterministic simulator: many processes on one store, in one thread, from one seed.

The real code runs, on the memory backend. A process of the simulation is a greenlet, its background
threads are greenlets too, and before every call of the backend a seeded scheduler decides who goes on, and
whether the call fails, does its work and loses its answer, lands later, or the process dies.
`python -m tests.faults --seed N` plays history N again, step by step the same.
docs/explanation/how-it-is-tested.md says what is checked.
"""
