"""The command ``kd``."""
