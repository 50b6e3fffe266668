"""What a run would take of a machine: compiled for it, without it."""
