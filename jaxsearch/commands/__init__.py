"""The `jaxsearch` command: one module per subcommand, each with its own arguments.

These modules import nothing heavy at the top, so that `--help` is instant; a command
imports what it needs when it runs.
"""
