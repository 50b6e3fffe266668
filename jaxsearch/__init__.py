"""jaxsearch: language models that learn, by reinforcement alone, to search.

Glossary. One letter per axis, everywhere:

  Q questions        G answers per question (a group)   B rows (Q * G) or slots
  T tokens in a row  S cache positions                  P passages
  V vocabulary       D model width                      F MLP width
  N query heads      K key/value heads                  H head width
  L layers           R rows named by an index           M rows of a microbatch

Masks are boolean, are called `is_*` or `has_*`, and True means "counts".
Log-probabilities are in nats. Lengths (`*_len`) are in tokens, times in seconds.
A *turn* is what the policy writes until it searches or ends; an *observation* is
what the search puts into its context; a *trajectory* is a whole rollout.
"""

__version__ = "0.1.0"
