"""Several processes as one run: how they join, agree, and notice that one is lost."""
