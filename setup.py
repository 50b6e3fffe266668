"""Adds configs/ to the package, as jaxsearch.configs; the rest is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxsearch*"]), "jaxsearch.configs"],
    package_dir={"jaxsearch.configs": "configs"},
)
