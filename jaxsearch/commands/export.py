"""`jaxsearch export`: writes a run's policy as a Hugging Face folder."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command, add_checkpoint_argument

_DESCRIPTION = """\
Writes the policy of a run as a Hugging Face folder (safetensors, config.json,
tokenizer) that transformers, vLLM and SGLang can load. LoRA updates are merged into the
weights; with --adapter, only the adapter is written.

With --push-to-hub the folder is then uploaded to the Hugging Face Hub, with a model
card. The token is taken from HF_TOKEN or `hf auth login`. If the upload fails, the
folder stays, and the error shows the command that uploads it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch export runs/quickstart exported
  jaxsearch export runs/mine exported --push-to-hub me/my-policy --private
"""
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("out", metavar="OUT", help="folder to write, new or empty")
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="write only the LoRA adapter, as a PEFT folder",
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="dtype of the weights (default: bfloat16; float32 for an adapter)",
    )
    parser.add_argument(
        "--push-to-hub",
        default="",
        metavar="OWNER/NAME",
        help="upload the folder to this repository, which is created if necessary",
    )
    parser.add_argument(
        "--private",
        action="store_true",
        help="if the repository is created, make it private",
    )
    add_checkpoint_argument(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.run.export import export_run

    if args.private and not args.push_to_hub:
        raise ValueError("--private is about an upload: give --push-to-hub OWNER/NAME")
    dtype = args.dtype or ("float32" if args.adapter else "bfloat16")
    return export_run(
        Path(args.run),
        Path(args.out),
        dtype=dtype,
        only_adapter=args.adapter,
        checkpoint=args.checkpoint,
        push_to_hub=args.push_to_hub,
        private=args.private,
    )


COMMAND = Command(
    summary="write a run's policy as a Hugging Face folder",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
