"""Programs for tests that read them, compiled as users compile them."""

from jax.stages import Compiled, Lowered


def compile_to_read(lowered: Lowered) -> Compiled:
    """Fuses operations as XLA does by default, unlike conftest.py."""
    return lowered.compile(compiler_options={"xla_cpu_use_fusion_emitters": True})
