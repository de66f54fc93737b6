"""How good a finished run is, and how much of its teacher is in it."""
