"""Fixtures: reference values and a list of compilations."""

import gzip
import json
from pathlib import Path

import jax
import numpy as np
import pytest

VECTORS = Path(__file__).parents[1] / "data" / "conformance_losses.json.gz"


@pytest.fixture(scope="session")
def vectors():
    """Loads the cases of a reference function: inputs and expected values as arrays."""
    functions = json.loads(gzip.open(VECTORS).read())

    def parsed(value, dtype):
        if isinstance(value, list):
            rows = {len(row) for row in value if isinstance(row, list)}
            if len(rows) > 1:
                return [np.array(row, dtype) for row in value]
            return np.array(value, dtype)
        if isinstance(value, dict):
            return {key: parsed(inner, dtype) for key, inner in value.items()}
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else value

    def cases(function):
        for case in functions[function]["cases"]:
            dtype = np.dtype(case["dtype"])
            inputs, expected = (
                {key: parsed(value, dtype) for key, value in case[part].items()}
                for part in ("inputs", "expected")
            )
            yield case["case"], dtype, inputs, expected, case["tol"]

    cases.names = tuple(functions)
    return cases


@pytest.fixture
def compilations():
    """A list with one entry for every program that XLA compiles."""
    durations = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            durations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield durations
    jax.monitoring.unregister_event_duration_listener(listen)
