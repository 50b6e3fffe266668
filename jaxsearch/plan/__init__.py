"""Planning: the memory and time a run would need on a machine, without that machine."""
