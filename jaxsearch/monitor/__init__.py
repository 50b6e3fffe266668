"""Monitoring of a run: guards, console, metrics writers and logs of rollouts."""
