"""`jaxsearch report`: writes an HTML report of a run."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command

_DESCRIPTION = """\
Writes RUN/report.html: curves, evaluations, alarms and trajectories of a run, in one
self-contained file. `jaxsearch train` writes it at the end of a run; this command
writes it at any time, even during the run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.report.write_report import write_report

    return {"report": str(write_report(Path(args.run)))}


COMMAND = Command(
    summary="write an HTML report of a run",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
