"""The `jaxsearch` command, one module per subcommand.

These modules import nothing heavy at the top level, so that `--help` is instant;
commands import what they need when they run.
"""
