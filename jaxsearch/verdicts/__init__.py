"""Verdicts of a language model on saved predictions: correct, wrong or unclear.

The command is `jaxsearch judge`. In the code, `judge` is what a task does to a rollout
(`rewards.judge`), and a model behind an address gives verdicts.
"""
