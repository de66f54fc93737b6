"""Hinton, Vinyals & Dean (2015), sections 4 and 6, a second protocol: the length and the
temperature of every arm are chosen on the validation speakers.
"""
