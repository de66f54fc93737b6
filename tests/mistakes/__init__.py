"""What a user can get wrong: one line, exit code 2, and nothing is lost."""
