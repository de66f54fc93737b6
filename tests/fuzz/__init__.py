"""Odd input in bulk, from a seed, and what became of it: ``python -m tests.fuzz``."""
