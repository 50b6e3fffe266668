"""Folders of models and tokenizers, local or on the Hugging Face Hub."""

from pathlib import Path

from jaxsearch.folder_files import check_links
from jaxsearch.local_paths import check_local

WEIGHTS = ("*.json", "*.safetensors")
TOKENIZER = ("*.json", "*.txt", "*.model", "*.jinja")
# Policies that ship with the package: a name that is the same on every machine, unlike
# the path of an installed package.
PACKAGED = {
    "jaxsearch:quickstart": Path(__file__).parents[1] / "data/policies/quickstart"
}


def local_folder(name: str, kind: str, patterns: tuple[str, ...]) -> Path:
    """A packaged or local folder, or the cached snapshot of a Hub id (owner/name).

    Args:
      kind: what the folder holds ("model", "tokenizer"), for error messages.
      patterns: glob patterns of the files to fetch.

    Raises:
      ValueError: if the path does not exist, one of these files is a link out of it,
        or the id cannot be fetched and is not wholly in the cache.
    """
    if name in PACKAGED:
        return PACKAGED[name]
    check_local(name, f"the {kind}")
    folder = Path(name)
    if folder.is_dir():
        # The files of an encoder are one folder deeper.
        for pattern in patterns:
            check_links(folder, folder.glob(pattern))
            check_links(folder, folder.glob(f"*/{pattern}"))
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        hint = "" if "/" in name else f"; an id of the Hub has an owner: OWNER/{name}"
        raise ValueError(f"{kind} folder {name} does not exist{hint}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        XetDownloadError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except GatedRepoError:
        raise ValueError(
            f"{kind} {name} is gated: ask for access on its page of the Hub, then set "
            "HF_TOKEN or run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"{kind} folder {name} does not exist; nor is it on the Hub, unless it is "
            "private (then set HF_TOKEN or run `hf auth login`)"
        ) from None
    except (OSError, HTTPError, HFValidationError, XetDownloadError) as error:
        # Its last lines give the address, and advice that is not about this command.
        reason = str(error).strip().partition("\n")[0] or repr(error)
        raise ValueError(
            f"{kind} folder {name} does not exist, and as an id of the Hub it cannot "
            f"be fetched: {reason}; without a connection, give the path of a folder "
            "that was downloaded elsewhere"
        ) from None
