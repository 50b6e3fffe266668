"""The policy network. Imports nothing of jaxsearch outside this package."""
