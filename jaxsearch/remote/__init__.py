"""Searching over HTTP: servers of four systems, and a vector database."""
