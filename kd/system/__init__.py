"""What this machine has: paths, disk, memory, and what is kept on disk between commands."""
