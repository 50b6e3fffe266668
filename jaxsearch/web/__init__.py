"""Search of the open web: providers of results, hostile pages, readable text."""
