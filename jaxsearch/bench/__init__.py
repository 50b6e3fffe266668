"""Benchmarks: measured speed, rooflines, and other engines on the same work."""
