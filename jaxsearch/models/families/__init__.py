"""Model families, and how their Hugging Face files describe a decoder."""
