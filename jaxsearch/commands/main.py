"""The entry point of the `jaxsearch` command; Ctrl-C ends it from its first line on."""

from collections.abc import Sequence

from jaxsearch.commands.interrupt import Interrupt
from jaxsearch.commands.missing_streams import open_missing_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad usage or bad input, 130 interrupted.
    """
    open_missing_streams()
    interrupt = Interrupt(lambda: "the same command starts again")
    with interrupt.watched():
        # Imported here, because importing takes a moment in which Ctrl-C counts too.
        from jaxsearch.commands.command_line import run_command_line

        return run_command_line(argv, interrupt)
