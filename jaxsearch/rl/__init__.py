"""Advantages, losses and updates. The network is passed in as a callable."""
