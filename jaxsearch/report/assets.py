"""Style sheets and scripts that are packaged with the report."""

from importlib import resources


def asset(name: str) -> str:
    """The text of a packaged file."""
    return (resources.files("jaxsearch.report") / name).read_text(encoding="utf-8")
