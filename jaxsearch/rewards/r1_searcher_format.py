"""The format rules of R1-Searcher's paper and code.

The tags are those of the protocol.
"""

import dataclasses
import re
from collections.abc import Sequence

from jaxsearch.protocol import Protocol
from jaxsearch.protocol.spans import without_spans
from jaxsearch.trajectory import Segment

MAX_ANSWER_WORDS = 10

_IDEOGRAPH = re.compile("[\u4e00-\u9fff]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParsedRollout:
    """A rollout parsed for the format rules.

    Attributes:
      protocol: the protocol that defines the tags.
      text: the text that is judged.
      extracted: the text that the reference treats as the answer, even without answer
        tags.
      fault: a format fault that depends on provenance; "" if there is none.
      num_searches: number of answered searches.
    """

    protocol: Protocol
    text: str
    extracted: str
    fault: str
    num_searches: int

    @property
    def prediction(self) -> str | None:
        """The answer, or None if one of its tags is missing."""
        has_tags = all(tag in self.text for tag in self.protocol.answer)
        return self.extracted if has_tags else None

    @property
    def findings(self) -> dict[str, str]:
        """The prediction that the reference logs, even without answer tags."""
        return {"prediction": self.extracted}


def parse_segments(segments: Sequence[Segment], protocol: Protocol) -> ParsedRollout:
    """Parses a rollout with provenance, of which only the policy's text is judged."""
    text = protocol.policy_text(segments)
    is_forged = protocol.is_forged(segments)
    fault = "document tags written by the policy" if is_forged else ""
    # If an observation interrupts the answer, only the part after it is used.
    last_part, is_interrupted = protocol.last_part(_extracted(text, protocol))
    last_part = last_part.rpartition(protocol.placeholder.strip())[2]
    if is_interrupted and protocol.answer.open in text and not fault:
        fault = "search inside the answer"
    return ParsedRollout(
        protocol=protocol,
        text=text,
        extracted=last_part.strip(),
        fault=fault,
        num_searches=len(protocol.search_results(segments)),
    )


def parse_text(response: str, protocol: Protocol) -> ParsedRollout:
    """Parses a text without provenance, like the reference."""
    tags, search = _tags(response, protocol), _search(protocol)
    return ParsedRollout(
        protocol=protocol,
        text=response,
        extracted=_extracted(response, protocol).strip(),
        fault="",
        # Queries between their tags, followed by documents.
        num_searches=sum(tags[i : i + 4] == search for i in range(len(tags))),
    )


def _extracted(text: str, protocol: Protocol) -> str:
    """The text from the last opening tag of an answer to the next closing tag.

    Without an opening tag it begins at the start of the text; without a closing tag it
    continues to the end.
    """
    _, _, after = text.rpartition(protocol.answer.open)
    return after.partition(protocol.answer.close)[0]


def _search(protocol: Protocol) -> list[str]:
    """The tags of a search and its documents, in order."""
    return [*protocol.search, *protocol.result]


def _tags(text: str, protocol: Protocol) -> list[str]:
    """The tags of searches and documents in a text, in order."""
    return re.findall("|".join(map(re.escape, _search(protocol))), text)


def tag_counts(text: str, protocol: Protocol) -> set[int]:
    """The set of counts of the strings that a search and its result consist of.

    It has a single number if all counts match. The strings include the line breaks of a
    block of documents and the number of its first passage.
    """
    open_tag, close_tag = protocol.result
    pieces = (
        f"{open_tag}\n",
        f"{close_tag}\n\n",
        *_search(protocol),
        f"{open_tag}\n(1)",
    )
    return {text.count(piece) for piece in pieces}


def reply_fault(text: str, protocol: Protocol) -> str:
    """The first fault in the tags of thoughts and answer; "" if none."""
    think, answer = protocol.think, protocol.answer
    if think.open in text or text.count(think.close) != 1:
        return f"thoughts must end with one {think.close}, without another {think.open}"
    if any(text.count(tag) != 1 for tag in answer):
        return f"there must be one {answer.open} and one {answer.close}"
    return ""


def code_fault(parsed: ParsedRollout) -> str:
    """The first fault by the rules shared by all rewards of the code; "" if none."""
    text, protocol = parsed.text, parsed.protocol
    if parsed.fault:
        return parsed.fault
    if len(tag_counts(text, protocol)) > 1:
        return "query and document tags do not match"
    if fault := reply_fault(text, protocol):
        return fault
    if _IDEOGRAPH.search(without_spans(text, protocol.result, joint="")):
        return "Chinese characters outside documents"
    return ""


def qwen_fault(parsed: ParsedRollout) -> str:
    """The first fault by the rules of the code for Qwen; "" if none."""
    protocol = parsed.protocol
    if fault := code_fault(parsed):
        return fault
    if "assistant" in parsed.text or "Assistant" in parsed.text:
        return "the word assistant"
    names = (_bare(protocol.search.open), _bare(protocol.result.open))
    if any(name in parsed.extracted for name in names):
        return "query or documents inside the answer"
    if len(parsed.extracted.split()) > MAX_ANSWER_WORDS:
        return f"answer of more than {MAX_ANSWER_WORDS} words"
    return ""


def _bare(tag: str) -> str:
    """The name in a tag with bars, because the code searches for the name only.

    Other tags are returned unchanged, because their names may be words of a good
    answer.
    """
    has_bars = tag.startswith("<|") and tag.endswith("|>")
    return tag.removeprefix("<|").removesuffix("|>") if has_bars else tag


def paper_fault(parsed: ParsedRollout) -> str:
    """The first fault by the paper's rules (see `r1_searcher_stage2`); "" if none."""
    text, protocol = parsed.text, parsed.protocol
    think, answer = protocol.think, protocol.answer
    if fault := parsed.fault or reply_fault(text, protocol):
        return fault
    if not text.find(think.close) < text.find(answer.open) < text.find(answer.close):
        return f"expected {think.close}, then {answer.open}, then {answer.close}"
    tags, search = _tags(text, protocol), _search(protocol)
    num_searches, rest = divmod(len(tags), len(search))
    if rest or tags != search * num_searches:
        return "a query must stand between its tags, and documents follow each"
    if _tags(parsed.extracted, protocol) or think.close in parsed.extracted:
        return "tags inside the answer"
    outside = without_spans(text, protocol.result, joint="")
    if "\ufffd" in outside or _IDEOGRAPH.search(outside):
        return "unreadable or Chinese characters outside documents"
    return ""
