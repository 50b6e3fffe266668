"""Programs for tests that read them, compiled as users compile them."""

import jax
from jax.stages import Compiled, Lowered


def compile_to_read(lowered: Lowered) -> Compiled:
    """Fuses operations as XLA does by default, unlike conftest.py."""
    # Later versions have no such option: they always fuse in this way.
    has_option = jax.__version_info__ < (0, 11)
    options = {"xla_cpu_use_fusion_emitters": True} if has_option else {}
    return lowered.compile(compiler_options=options)
