"""``python -m kd.cli``."""

from kd.cli.main import run

if __name__ == "__main__":
    run()
