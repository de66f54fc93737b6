"""What kd and tunix both compute: a student of a live teacher of the same widths."""

TEMPERATURE, ALPHA = 2.0, 0.5  # `ALPHA` of the soft targets, the rest of the labels
TEACHER_SEED = 3  # of its parameters
