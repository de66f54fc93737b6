"""Where arrays live: one mesh with named axes, and the rules by which parameters are split."""
