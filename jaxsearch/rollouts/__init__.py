"""Rollouts: sampling that pauses for tool calls and keeps its KV cache."""
