"""Uploading an exported folder to the Hugging Face Hub, with a model card."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from jaxsearch.config import RunConfig
from jaxsearch.models.hub import PACKAGED

CARD = "README.md"
_LOGIN = "set HF_TOKEN or run `hf auth login`, with a token that may write"


def check_upload(repo: str) -> None:
    """Checks what can be known of an upload before the export, without the network.

    Raises:
      ValueError: if the name has another form than OWNER/NAME, or there is no token.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ValueError(f"--push-to-hub {repo}: {error}") from None
    if repo.count("/") != 1:
        raise ValueError(f"--push-to-hub expects OWNER/NAME, got {repo!r}")
    if constants.HF_HUB_OFFLINE:
        raise ValueError(
            "--push-to-hub needs the network, but HF_HUB_OFFLINE is set; unset it, or "
            "export without --push-to-hub and upload later"
        )
    if get_token() is None:
        raise ValueError(f"--push-to-hub needs a token of the Hub: {_LOGIN}")


def upload(folder: Path, repo: str, *, private: bool) -> str:
    """Uploads an exported folder as one commit, and returns the commit's address.

    The repository is created if it does not exist; files of the same names are
    replaced by the commit. The token is that of HF_TOKEN or `hf auth login`.

    Args:
      folder: the exported folder.
      repo: OWNER/NAME.
      private: whether a repository that is created is private.

    Raises:
      ValueError: if the Hub refuses the upload or cannot be reached; the folder stays.
    """
    from huggingface_hub import HfApi

    hub = HfApi(library_name="jaxsearch")
    with _one_line(folder, repo):
        hub.create_repo(repo, private=private, exist_ok=True)
        message = "Upload a policy trained with jaxsearch"
        commit = hub.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=message
        )
    return str(commit.commit_url)


@contextlib.contextmanager
def _one_line(folder: Path, repo: str) -> Iterator[None]:
    """Turns what the library of the Hub raises into one line."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = f"the Hub answered with status {status}"
        if status == 401:
            reason = f"the Hub does not accept the token: {_LOGIN}"
        elif status == 403:
            reason = f"the token may not write to {repo}: {_LOGIN} to this owner"
    except (OSError, HTTPError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or repr(error)
    except RuntimeError as error:
        # Of a large file, with the reason as its cause.
        cause = str(error.__cause__ or "").partition("\n")[0]
        reason = f"{error} {cause}".strip()
    else:
        return
    again = shlex.join(["hf", "upload", repo, str(folder)])
    raise ValueError(
        f"{repo} was not uploaded: {reason}. The export is complete in {folder}; to "
        f"upload it later: {again}"
    )


def write_card(
    folder: Path, repo: str, config: RunConfig, *, checkpoint: str, only_adapter: bool
) -> None:
    """Writes the model card of an export, README.md.

    Args:
      folder: the exported folder.
      repo: OWNER/NAME.
      config: the config of the run.
      checkpoint: which checkpoint was exported, in words.
      only_adapter: whether the export is a LoRA adapter.
    """
    base = _hub_id(config.model.path)
    tags = ["jaxsearch", "reinforcement-learning", "search", config.task.name]
    lines = [
        "---",
        f"library_name: {'peft' if only_adapter else 'transformers'}",
        *([f"base_model: {base}"] if base else []),
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
        f"# {repo.partition('/')[2]}",
        "",
        "A language model that decides when to search and what to ask, trained by "
        "reinforcement learning with jaxsearch.",
        "",
        f"- Base model: {_base_in_words(config.model.path)}",
        f"- Task (prompt format and reward): `{config.task.name}`",
        f"- Checkpoint: {checkpoint}",
        f"- Contents: {'a LoRA adapter' if only_adapter else 'all weights'}",
        "",
        *(
            _how_to_load_adapter(repo, base)
            if only_adapter
            else _how_to_load(repo, config.task.name)
        ),
    ]
    (folder / CARD).write_text("\n".join(lines) + "\n")


def _hub_id(model: str) -> str:
    """The id of a model that is on the Hub; "" for another one."""
    is_id = model.count("/") == 1 and model[0] not in "./~"
    return model if is_id and not Path(model).exists() else ""


def _base_in_words(model: str) -> str:
    if not model:
        return "none, random weights"
    if model in PACKAGED or _hub_id(model):
        return f"`{model}`"
    # The path of a folder tells nothing to others, and may be private.
    return "a local folder"


def _how_to_load(repo: str, task: str) -> list[str]:
    """The section about loading a policy with all its weights."""
    return [
        *("## How to load it", "", "```python"),
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{repo}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{repo}")',
        *("```", ""),
        "The policy writes search tags and expects passages in return; jaxsearch "
        "supplies both:",
        *("", "```bash"),
        f"jaxsearch eval --model {repo} --task {task} \\",
        "  --questions questions.jsonl --index INDEX --out results",
        "```",
    ]


def _how_to_load_adapter(repo: str, base: str) -> list[str]:
    """The section about loading an adapter onto its base model."""
    return [
        *("## How to load it", "", "```python"),
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f'base = AutoModelForCausalLM.from_pretrained("{base or "BASE_MODEL"}")',
        f'model = PeftModel.from_pretrained(base, "{repo}")',
        "```",
    ]
