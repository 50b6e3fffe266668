"""`jaxsearch plan`: memory and cost of a run's steps on a given machine."""

import argparse
import os
from typing import Any

from jaxsearch.commands.command import (
    Command,
    add_config_arguments,
    overridden_config,
    with_late_options,
)

_DESCRIPTION = """\
Computes the memory per device, whether it fits, and the FLOPs, collectives and a lower
bound on the time of a step, for the last RL stage of a config. The model's weights are
not needed; its config.json is enough.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--topology",
        metavar="NAME",
        help="machine to plan for: v5e:4x4 (or v5e-16), v5p:4x4x4 and v6e:8x8 compile "
        "for TPUs (none is needed here); h200:8, a100:8, l4:1 or rtx4090:2 compute for "
        "GPUs (default: the devices of this machine)",
    )
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="estimate without compiling, which is less exact but takes only seconds",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "jaxsearch plan CONFIG [--topology NAME] [--no-compile] [--json] "
        "[--field value ...]"
    )
    _add_options(parser)
    add_config_arguments(
        parser, "fields of the config to override, as in `jaxsearch train`"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    args = with_late_options(args, _add_options)
    if args.topology:
        # Compiling for other devices needs no local ones and must not occupy them.
        os.environ["JAX_PLATFORMS"] = "cpu"
    from jaxsearch.plan.plan import plan
    from jaxsearch.plan.text import as_text

    config = overridden_config("plan", args)
    result = plan(config, args.topology, is_compiled=not args.no_compile)
    if args.json:
        return result
    print(as_text(result))
    return {}


COMMAND = Command(
    summary="check whether a run fits a machine, and the cost of a step",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
