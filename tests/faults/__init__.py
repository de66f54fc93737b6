"""Runs that are broken off on purpose, and what became of them: ``python -m tests.faults``."""
