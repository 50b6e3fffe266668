"""The `jaxsearch` command."""
