"""Verdicts of a language model on saved predictions: correct, wrong or unclear.

The command is `jaxsearch judge`. In the code, a task judges a rollout
(`rewards.judge`), and a language model gives verdicts.
"""
