"""`jaxsearch doctor`: reports installed versions, devices and missing packages."""

import argparse
import platform
from importlib import metadata
from typing import Any

from jaxsearch.commands.command import Command

_DESCRIPTION = """\
Prints the versions of the packages that jaxsearch uses, the devices that JAX finds, and
the command that installs each missing package.
"""

_NEEDED = (
    *("jax", "flax", "optax", "orbax-checkpoint", "transformers", "scikit-learn"),
    *("scann", "tensorflow-datasets", "grain", "wandb", "tyro", "rich"),
)
# Optional package -> extra of jaxsearch that installs it.
_EXTRAS = {"libtpu": "plan", "tensorboardX": "tensorboard", "torch": "parity"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no arguments."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    return examine()


def examine() -> dict[str, Any]:
    """Versions by package, devices, and the install command of each missing package."""
    import jax

    missing = [
        f"{name}: pip install -e ."
        for name in _NEEDED
        if _version(name) is None
        # ScaNN has wheels for Linux only; elsewhere the exact index is used.
        and not (name == "scann" and platform.system() != "Linux")
    ]
    optional = [
        f"{name}: pip install -e '.[{extra}]'"
        for name, extra in _EXTRAS.items()
        if _version(name) is None
    ]
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _NEEDED},
        "backend": jax.default_backend(),
        "devices": [f"{d.device_kind} {d.id}" for d in jax.devices()],
        "missing": missing,
        "optional": optional,
    }


def _version(name: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


COMMAND = Command(
    summary="show installed versions, devices and missing packages",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
