"""The policy network. It does not import the rest of jaxsearch."""
