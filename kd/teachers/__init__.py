"""Teachers: made live, of an ensemble or of a table, and what they answer for a data set."""
