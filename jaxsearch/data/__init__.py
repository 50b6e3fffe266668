"""Data: questions, tokenizers, demonstrations and generated worlds."""
