"""Questions, tokenizers and worlds: what a run is made of."""
