"""Writing policies as Hugging Face folders."""

import json
from pathlib import Path
from typing import Any

from jaxsearch.local_paths import check_local, check_new_folder
from jaxsearch.models.hf_config import to_hf_config
from jaxsearch.models.save import MAX_FILE_BYTES, save_tensors
from jaxsearch.run.adapter_folder import export_adapter
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.hub_upload import check_upload, upload, write_card
from jaxsearch.run.loading import is_run, open_anywhere
from jaxsearch.run.policy import Policy
from jaxsearch.run.warm_start import origin_of


def export_run(
    folder: Path,
    out: Path,
    *,
    dtype: str,
    only_adapter: bool = False,
    checkpoint: str = "",
    push_to_hub: str = "",
    private: bool = False,
) -> dict[str, Any]:
    """Writes a run's policy as a Hugging Face folder, or its adapter for PEFT.

    Args:
      folder: the run's folder.
      out: folder to write; it must be empty or not exist.
      dtype: dtype of the written weights.
      only_adapter: write only the LoRA adapter, not the merged weights.
      checkpoint: best, last or a step, as in `loading.load_run`.
      push_to_hub: OWNER/NAME of a repository of the Hugging Face Hub, to which the
        folder is then uploaded with a model card; "" for none.
      private: whether this repository is private, if it is created.

    Returns:
      The checkpoint, the number of parameters, their dtype and the names of the files;
      the address of the upload as `url`.

    Raises:
      ValueError: if `folder` is not a run's folder, the run has no adapter to export,
        `out` is a file or not empty, or the upload fails; the exported folder then
        stays.

    Example:
      >>> from pathlib import Path
      >>> run, out = Path("runs/quickstart"), Path("exported")
      >>> sorted(jaxsearch.export_run(run, out, dtype="bfloat16")["files"])
      ['config.json', ..., 'model.safetensors', 'tokenizer.json', ...]
    """
    check_local(folder, "the run's folder")
    check_local(out, "the folder to write")
    check_new_folder(out)
    if not is_run(str(folder)):
        raise ValueError(f"{folder} is not a run's folder (no checkpoints)")
    if push_to_hub:
        check_upload(push_to_hub)
    config = read_run_config(folder)
    choice = choose_checkpoint(config, checkpoint)
    run = open_anywhere(config)
    params = run.checkpoint_params(choice)
    if only_adapter:
        base = run.config.model.path
        if origin_of(base) is not None:
            raise ValueError(
                f"the adapter of {folder} was trained on the policy of run {base}, "
                "which is no Hugging Face folder; export the whole policy instead"
            )
        num = export_adapter(run.transformer, params, out, base=base, dtype=dtype)
    else:
        num = run.transformer.architecture.num_parameters
        max_positions = run.config.rollout.max_len
        export(run.policy(params), out, max_positions=max_positions, dtype=dtype)
    uploaded = {}
    if push_to_hub:
        write_card(
            out,
            push_to_hub,
            run.config,
            checkpoint=choice.description,
            only_adapter=only_adapter,
        )
        uploaded["url"] = upload(out, push_to_hub, private=private)
    return {
        "out": str(out),
        "checkpoint": choice.description,
        "parameters": num,
        "dtype": dtype,
        "files": sorted(path.name for path in out.iterdir()),
        **uploaded,
    }


def export(
    policy: Policy,
    folder: Path,
    *,
    max_positions: int,
    dtype: str,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Writes a Hugging Face folder: safetensors, config.json, tokenizer.

    Args:
      policy: the policy to write.
      folder: folder to write; it must be empty or not exist.
      max_positions: written to config.json if the architecture does not define it.
      dtype: dtype of the written weights.
      max_file_bytes: size limit per file; several files come with an index.

    Raises:
      ValueError: if the folder is not empty, or a file.
    """
    check_new_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architecture, tokenizer = policy.transformer.architecture, policy.tokenizer
    config = to_hf_config(architecture, max_positions=max_positions, dtype=dtype)
    config |= tokenizer.special_config
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save(folder)
    save_tensors(folder, policy.params, architecture, dtype, max_file_bytes)
