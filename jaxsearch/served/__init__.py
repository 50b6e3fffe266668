"""Policies on an OpenAI-compatible server: rollouts without local parameters."""
