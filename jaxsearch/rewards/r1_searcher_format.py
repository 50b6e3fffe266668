"""What a rollout under R1-Searcher's protocol says, and what is wrong with its form."""

import dataclasses
import re
from collections.abc import Sequence

from jaxsearch.protocol.r1_searcher import (
    BEGIN_DOCUMENTS,
    BEGIN_QUERY,
    EMPTY_DOCUMENTS,
    END_DOCUMENTS,
    END_QUERY,
)
from jaxsearch.protocol.spans import policy_runs, policy_text
from jaxsearch.trajectory import Segment

MAX_ANSWER_WORDS = 10

_COUNTED = (
    f"{BEGIN_DOCUMENTS}\n",
    f"{END_DOCUMENTS}\n\n",
    BEGIN_QUERY,
    END_QUERY,
    BEGIN_DOCUMENTS,
    END_DOCUMENTS,
    f"{BEGIN_DOCUMENTS}\n(1)",
)
_TAG = re.compile(r"<\|(?:begin|end)_of_(?:query|documents)\|>")
_SEARCH = [BEGIN_QUERY, END_QUERY, BEGIN_DOCUMENTS, END_DOCUMENTS]
_IDEOGRAPH = re.compile("[\u4e00-\u9fff]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What a rollout says.

    Attributes:
      text: what is judged.
      extracted: what the code takes for the answer, answer tags or not.
      fault: what only provenance can tell, "" if nothing is wrong.
      num_searches: that were answered.
    """

    text: str
    extracted: str
    fault: str
    num_searches: int

    @property
    def prediction(self) -> str | None:
        """The answer, where both its tags are there."""
        has_tags = "<answer>" in self.text and "</answer>" in self.text
        return self.extracted if has_tags else None

    @property
    def findings(self) -> dict[str, str]:
        """The code logs what it extracts as the prediction, answer tags or not."""
        return {"prediction": self.extracted}


def read_segments(segments: Sequence[Segment]) -> Reading:
    runs = policy_runs(segments)
    text = policy_text(segments, EMPTY_DOCUMENTS)
    is_forged = any(
        tag in run for run in runs if run for tag in (BEGIN_DOCUMENTS, END_DOCUMENTS)
    )
    fault = "document tags written by the policy" if is_forged else ""
    # Only the last turn's part of an answer that an observation interrupts is read.
    _, observation, last_part = _extracted(text).rpartition(EMPTY_DOCUMENTS.strip())
    if observation and "<answer>" in text and not fault:
        fault = "search inside the answer"
    return Reading(
        text=text,
        extracted=last_part.strip(),
        fault=fault,
        num_searches=runs.count(None),
    )


def read_text(response: str) -> Reading:
    return Reading(
        text=response,
        extracted=_extracted(response),
        fault="",
        num_searches=_num_searches(response),
    )


def _extracted(text: str) -> str:
    """From the last <answer> to the next </answer>, or as much of that as there is."""
    return text.rpartition("<answer>")[2].partition("</answer>")[0].strip()


def _num_searches(text: str) -> int:
    """Queries in their tags that documents follow."""
    tags = _TAG.findall(text)
    return sum(tags[i : i + 4] == _SEARCH for i in range(len(tags)))


def _outside_documents(text: str) -> str:
    """The text without its closed document blocks."""
    kept, end = [], 0
    while (start := text.find(BEGIN_DOCUMENTS, end)) >= 0:
        close = text.find(END_DOCUMENTS, start)
        if close < 0:
            break
        kept.append(text[end:start])
        end = close + len(END_DOCUMENTS)
    return "".join([*kept, text[end:]])


def tag_counts(text: str) -> set[int]:
    """How often what a search and its result must hold is there: one number, if good.

    A block of documents counts only with its line breaks and a first number.
    """
    return {text.count(piece) for piece in _COUNTED}


def reply_fault(text: str) -> str:
    """Whether the thoughts end once and there is one answer, in whatever order."""
    if "<think>" in text or text.count("</think>") != 1:
        return "thoughts must end with one </think>, without another <think>"
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return "there must be one <answer> and one </answer>"
    return ""


def code_fault(reading: Reading) -> str:
    text = reading.text
    if reading.fault:
        return reading.fault
    if len(tag_counts(text)) > 1:
        return "query and document tags do not match"
    if fault := reply_fault(text):
        return fault
    if _IDEOGRAPH.search(_outside_documents(text)):
        return "Chinese characters outside documents"
    return ""


def qwen_fault(reading: Reading) -> str:
    if fault := code_fault(reading):
        return fault
    if "assistant" in reading.text or "Assistant" in reading.text:
        return "the word assistant"
    if "begin_of_query" in reading.extracted or (
        "begin_of_documents" in reading.extracted
    ):
        return "query or documents inside the answer"
    if len(reading.extracted.split()) > MAX_ANSWER_WORDS:
        return f"answer of more than {MAX_ANSWER_WORDS} words"
    return ""


def paper_fault(reading: Reading) -> str:
    text = reading.text
    if fault := reading.fault or reply_fault(text):
        return fault
    if not text.find("</think>") < text.find("<answer>") < text.find("</answer>"):
        return "expected </think>, then <answer>, then </answer>"
    tags = _TAG.findall(text)
    num_searches, rest = divmod(len(tags), len(_SEARCH))
    if rest or tags != _SEARCH * num_searches:
        return "a query must stand between its tags, and documents follow each"
    if _TAG.search(reading.extracted) or "</think>" in reading.extracted:
        return "tags inside the answer"
    outside = _outside_documents(text)
    if "\ufffd" in outside or _IDEOGRAPH.search(outside):
        return "unreadable or Chinese characters outside documents"
    return ""
