"""Evaluation of a policy, during and after training, and selection of questions."""
