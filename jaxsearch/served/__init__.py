"""Policies behind an OpenAI-compatible server: rollouts without local parameters."""
