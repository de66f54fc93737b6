"""kd against PyTorch eager, and against itself, on one machine. Run: ``python -m bench.run``."""
