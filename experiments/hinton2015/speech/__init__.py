"""Hinton, Vinyals & Dean (2015), sections 4 and 6: acoustic models on word-labelled speech."""
