"""The same step for chips that are not here: lowered, compiled, counted, priced."""
