"""Views of a batch: augmentation as a function of (seed, step, example)."""
