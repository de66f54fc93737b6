"""Hinton, Vinyals & Dean (2015), "Distilling the Knowledge in a Neural Network"."""
