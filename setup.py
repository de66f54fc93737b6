"""What pyproject.toml cannot say: configs/ and experiments/ are installed inside kd.

They are beside it in a clone. At the top level of an installation their names would be in the way
of everybody else's; ``kd/shipped.py`` finds them in both places.
"""

from setuptools import find_packages, setup

BESIDE = ("configs", "experiments")

beside = find_packages(include=[f"{name}{end}" for name in BESIDE for end in ("", ".*")])
setup(
    packages=[
        *find_packages(include=["kd", "kd.*"]),
        *(f"kd.repository.{package}" for package in beside),
    ],
    package_dir={f"kd.repository.{name}": name for name in BESIDE},
)
