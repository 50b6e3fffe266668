"""`jaxsearch report`: a run as one HTML page."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command

_DESCRIPTION = """\
Writes RUN/report.html: curves, evaluations, alarms and trajectories of a run, in one
file that needs no network. `jaxsearch train` writes it at the end of a run; this
command writes it again, also while the run goes on.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.report.write_report import write_report

    return {"report": str(write_report(Path(args.run)))}


COMMAND = Command(
    summary="write a run as one HTML page",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
