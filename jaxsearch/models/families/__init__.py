"""Model families: how each one's Hugging Face files describe a decoder."""
