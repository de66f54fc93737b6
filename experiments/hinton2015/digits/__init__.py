"""Hinton, Vinyals & Dean (2015), section 3 in small: from an ensemble to one model on digits."""
