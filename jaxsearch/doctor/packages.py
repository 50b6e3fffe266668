"""Python, and the packages that jaxsearch uses."""

import os
import platform
from collections.abc import Iterator
from importlib import metadata

from jaxsearch.doctor.check import Check

NEEDED = (
    *("jax", "flax", "optax", "orbax-checkpoint", "transformers"),
    *("tensorflow-datasets", "grain", "wandb", "tyro", "rich"),
)
# Optional package -> extra of jaxsearch that installs it, and its use.
EXTRAS = {
    "fastapi": ("serve", "`jaxsearch serve`"),
    "uvicorn": ("serve", "`jaxsearch serve`"),
    "PyStemmer": ("bm25", "`jaxsearch index build --encoder bm25` and --hybrid"),
    "pymilvus": ("milvus", "searches in Milvus, and `jaxsearch index push`"),
    "libtpu": ("plan", "compiling for TPUs in `jaxsearch plan`"),
    "tensorboardX": ("tensorboard", "--logging.tensorboard"),
    "gcsfs": ("gcs", "--out gs://..."),
    "s3fs": ("s3", "--out s3://..."),
    "trafilatura": ("web", "the pages of a web search (--web.pages)"),
    "gguf": ("smollm2", "launch/smollm2.py"),
    "torch": ("parity", "comparing models with transformers"),
}


def package_checks() -> Iterator[Check]:
    """Yields Python's version, the needed packages, and the optional ones."""
    yield Check(name="python", status="ok", found=platform.python_version())
    versions = {name: version(name) for name in NEEDED}
    present = [f"{name} {found}" for name, found in versions.items() if found]
    yield Check(name="packages", status="ok", found=", ".join(present))
    if missing := [name for name, found in versions.items() if not found]:
        yield Check(
            name="packages",
            status="problem",
            found=f"not installed: {', '.join(missing)}",
            mend=f"pip install {' '.join(missing)}",
        )
    for name, (extra, use) in EXTRAS.items():
        if not version(name):
            yield Check(
                name=name,
                status="note",
                found=f"not installed; for {use}",
                mend=f"pip install 'jaxsearch[{extra}]'",
            )


def version(name: str) -> str:
    """The installed version of a package; "" if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def token_checks() -> Iterator[Check]:
    """Yields whether tokens of services are there; their values are not looked at."""
    from huggingface_hub import get_token

    yield _token(
        "HF_TOKEN", bool(get_token()), "gated and private models", "hf auth login"
    )
    has_key = bool(os.environ.get("WANDB_API_KEY")) or _has_wandb_login()
    yield _token("WANDB_API_KEY", has_key, "--logging.wandb online", "wandb login")


def _has_wandb_login() -> bool:
    """Whether `wandb login` has saved a key, in a file that other programs share."""
    import netrc

    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _token(name: str, is_there: bool, use: str, mend: str) -> Check:
    if is_there:
        return Check(name=name, status="ok", found="present")
    return Check(name=name, status="note", found=f"not present; for {use}", mend=mend)
