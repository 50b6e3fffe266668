"""What watches a run: guards, console, metrics writers, logs of rollouts."""
