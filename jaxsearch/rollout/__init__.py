"""Sampling that pauses for searches and keeps what it has computed."""
