"""Evaluation of a policy: during training, afterwards, and to select questions."""
