"""Hinton, Vinyals & Dean (2015), sections 2.1, 3 and 6, on MNIST."""
