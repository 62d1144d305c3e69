"""Fuzzing: every decoder and parser takes any input, and says what is wrong with it in an error of Holdfast.

`python -m tests.fuzz --inputs 1000000` tries so many, `--target NAME --seed N` one again. Inputs are golden
files that are changed at random, mostly behind right checksums, so that what lies behind those is tried too.
"""
