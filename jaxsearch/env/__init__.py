"""Environments: the tools that answer a policy between its turns."""
