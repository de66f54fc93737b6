"""From a task to a trained state: compile, loop, log, write, save."""
