"""Retrieval: passages, encoders and indexes."""
