"""Answers: extraction from a text and comparison with golden answers.

Every comparison returns the best value over the golden answers. It takes a normaliser,
because systems use different ones; see `rewards.tasks`.
"""

import collections
import re
import string
from collections.abc import Callable, Sequence

Normalise = Callable[[str], str]
Metric = Callable[[str, Sequence[str], Normalise], float]

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_BRACE = re.compile(r"[{}]")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPACED_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))
# For non-ASCII texts, where str.translate looks up every character.
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]+")
_PUNCTUATION_AND_QUOTES = re.compile(f"[{re.escape(string.punctuation)}‘’´]+")
_TRUTHS = {"True": "yes", "False": "no"}
_WHOLE_ANSWERS = frozenset({"yes", "no", "noanswer"})


def normalise_research(text: str) -> str:
    """Lower-case text without ASCII punctuation, articles and extra white space.

    Punctuation is deleted, not replaced by a space, so "well-known" is one word.

    Source: ReSearch, reward_score/re_search.py (the SQuAD normaliser).
    """
    text = text.lower()
    if text.isascii():
        bare = text.translate(_NO_PUNCTUATION)
    else:
        bare = _PUNCTUATION.sub("", text)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def normalise_r1_searcher(text: str) -> str:
    """Same as `normalise_research`, but punctuation becomes a space, and True yes.

    Four quotes outside ASCII count as punctuation. "well-known" is two words. "True"
    and "False" become "yes" and "no" only if they are the whole text, in this spelling.

    Source: R1-Searcher, train/reward_server_*.py and evaluation/metric_calc_rule.py.
    """
    text = _TRUTHS.get(text, text).lower()
    if text.isascii():
        spaced = text.translate(_SPACED_PUNCTUATION)
    else:
        spaced = _PUNCTUATION_AND_QUOTES.sub(" ", text)
    return " ".join(_ARTICLE.sub(" ", spaced).split())


def require_golden_answers(golden_answers: Sequence[str]) -> None:
    """Checks that the golden answers are a non-empty list of strings.

    Raises:
      ValueError: if they are not.
    """
    if isinstance(golden_answers, str) or not golden_answers:
        raise ValueError(
            "expected a list of at least one golden answer, got "
            f"{golden_answers!r}; leave out questions without answers, and put a "
            "single answer in a list"
        )
    if not all(isinstance(gold, str) for gold in golden_answers):
        raise ValueError(
            f"golden answers must be strings, got {golden_answers!r:.80}; write "
            "numbers as text"
        )


def exact_match(
    prediction: str, golden_answers: Sequence[str], normalise: Normalise
) -> float:
    """1.0 if the normalised prediction equals a normalised golden answer, else 0.0.

    A text that is empty once normalised, such as "A", equals no other, because "the"
    would equal it too. So the exact match is 1 only if the F1 is 1. In the
    references such texts are equal; see `em_check`.
    """
    require_golden_answers(golden_answers)
    predicted = normalise(prediction)
    return float(bool(predicted) and em_check(prediction, golden_answers, normalise))


def em_check(
    prediction: str, golden_answers: Sequence[str], normalise: Normalise
) -> float:
    """The exact match of the references, for which two empty texts are equal.

    Source: Search-R1, reward_score/qa_em.py (em_check); the same value as ReSearch's
    ExactMatch and R1-Searcher's exact_match_score with their normalisers.
    """
    require_golden_answers(golden_answers)
    predicted = normalise(prediction)
    return float(any(predicted == normalise(gold) for gold in golden_answers))


def f1(prediction: str, golden_answers: Sequence[str], normalise: Normalise) -> float:
    """Token F1 of the normalised texts, in 0..1.

    If either text is "yes", "no" or "noanswer", only equal texts score.

    Source: ReSearch, reward_score/re_search.py (get_f1_score). In that code an empty
    list of golden answers gives 0; here it is an error.
    """
    require_golden_answers(golden_answers)
    predicted = normalise(prediction)
    return max(_token_f1(predicted, normalise(gold)) for gold in golden_answers)


def _token_f1(predicted: str, gold: str) -> float:
    if predicted != gold and not _WHOLE_ANSWERS.isdisjoint((predicted, gold)):
        return 0.0
    predicted_tokens, gold_tokens = predicted.split(), gold.split()
    shared = collections.Counter(predicted_tokens) & collections.Counter(gold_tokens)
    num_shared = shared.total()
    if num_shared == 0:
        return 0.0
    precision = num_shared / len(predicted_tokens)
    recall = num_shared / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


def cover_em(
    prediction: str, golden_answers: Sequence[str], normalise: Normalise
) -> float:
    """1.0 if all tokens of a golden answer are in the prediction, else 0.0.

    Order and repetition do not matter. As in `exact_match`, a prediction that is empty
    once normalised covers no answer. In the reference it covers an answer that is empty
    too; see `cover_exact_match_score_1`.
    """
    covered = cover_exact_match_score_1(prediction, golden_answers, normalise)
    return float(bool(normalise(prediction)) and covered)


def cover_exact_match_score_1(
    prediction: str, golden_answers: Sequence[str], normalise: Normalise
) -> float:
    """The `cover_em` of R1-Searcher, for which an empty text covers an empty answer.

    Source: R1-Searcher, evaluation/metric_calc_rule.py (cover_exact_match_score_1).
    """
    require_golden_answers(golden_answers)
    predicted = normalise(prediction)
    predicted_tokens = set(predicted.split())
    golds = (normalise(gold) for gold in golden_answers)
    return float(
        any(
            predicted_tokens.issuperset(gold.split()) if gold else not predicted
            for gold in golds
        )
    )


def sub_em(
    prediction: str, golden_answers: Sequence[str], normalise: Normalise
) -> float:
    """1.0 if a normalised golden answer is in the normalised prediction, else 0.0.

    The texts are compared as strings: a golden answer may begin and end inside words,
    and one that normalises to the empty text is in every prediction.

    Source: Search-R1, reward_score/qa_em.py (subem_check).
    """
    require_golden_answers(golden_answers)
    predicted = normalise(prediction)
    return float(any(normalise(gold) in predicted for gold in golden_answers))


def last_boxed(text: str) -> str | None:
    r"""The content of the last \boxed{...}, or None if the last box is malformed.

    Braces, including escaped ones, are matched by count. A `\boxed ` with a space
    anywhere in the text takes precedence: the answer is then the text from the last one
    to the next dollar sign. White space is kept.

    Source: ReSearch, reward_score/re_search.py (last_boxed_only_string, remove_boxed).
    In that code a malformed box raises an exception, and `\fbox` is searched for but
    never accepted.
    """
    _, spaced, tail = text.rpartition("\\boxed ")
    if spaced:
        return tail.partition("$")[0]
    _, box, tail = text.rpartition("\\boxed")
    if not box or not tail.startswith("{"):
        return None
    depth = 0
    for brace in _BRACE.finditer(tail):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return tail[1 : brace.start()]
    return None
