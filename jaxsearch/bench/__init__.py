"""Benchmarks: measured speed, compared with rooflines and with other engines."""
