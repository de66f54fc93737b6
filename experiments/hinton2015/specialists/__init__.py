"""Section 5 of Hinton et al. (2015): a generalist, its specialists, and the step back into one."""
