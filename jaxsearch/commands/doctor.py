"""What is installed, which devices there are, and what is missing."""

import platform
from importlib import metadata
from typing import Any

_NEEDED = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "scikit-learn")
_DATA = ("scann", "tensorflow-datasets", "grain", "wandb", "tyro", "rich")
_EXTRAS = {
    "libtpu": "plan",
    "fastapi": "serve",
    "tensorboardX": "tensorboard",
    "torch": "parity",
}


def examine() -> dict[str, Any]:
    """Versions by package, devices, and a command for each thing that is missing."""
    import jax

    missing = [
        f"{name}: pip install -e ."
        for name in (*_NEEDED, *_DATA)
        if _version(name) is None
        # There is no ScaNN for other systems; the exact index stands in.
        and not (name == "scann" and platform.system() != "Linux")
    ]
    optional = [
        f"{name}: pip install -e '.[{extra}]'"
        for name, extra in _EXTRAS.items()
        if _version(name) is None
    ]
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in (*_NEEDED, *_DATA)},
        "backend": jax.default_backend(),
        "devices": [f"{d.device_kind} {d.id}" for d in jax.devices()],
        "missing": missing,
        "optional": optional,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
