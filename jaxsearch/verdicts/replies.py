"""Replies of the model to many messages, with several requests at once."""

import concurrent.futures
from collections.abc import Iterator, Mapping

from jaxsearch.chat import Completion
from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.remote.connection import UnauthorizedError
from jaxsearch.search.index import RefusedSearchError
from jaxsearch.verdicts.model import VerdictModel

# After this many refusals without a reply, the endpoint seems to refuse all requests.
_MAX_REFUSED = 5


class VerdictsError(RuntimeError):
    """Some predictions have no verdict; the message has their number and the reason."""


def replies(
    model: VerdictModel, messages: Mapping[str, str], concurrency: int
) -> Iterator[tuple[str, Completion]]:
    """Yields the model's reply to each message, as they arrive.

    After an error, or if the iterator is closed, it does not wait for requests in
    progress, which may take as long as their timeout.

    Args:
      model: the model.
      messages: the messages, by keys that are yielded with their replies.
      concurrency: number of requests in progress at once.

    Raises:
      ValueError: if the endpoint refuses the key, or every request.
      NoReplyError: if it gives no reply for now.
      VerdictsError: after all other replies, if it refuses some requests.
    """
    refused: list[str] = []
    num_replies = 0
    threads = DaemonExecutor(min(concurrency, len(messages)))
    try:
        futures = {
            threads.submit(model.ask, text): key for key, text in messages.items()
        }
        for future in concurrent.futures.as_completed(futures):
            try:
                reply = future.result()
            except UnauthorizedError as error:
                raise ValueError(str(error)) from None
            except RefusedSearchError as error:
                refused.append(str(error))
                if not num_replies and len(refused) == _MAX_REFUSED:
                    raise ValueError(refused[0]) from None
                continue
            num_replies += 1
            yield futures[future], reply
    finally:
        model.stop.set()
        threads.shutdown()
    if refused:
        raise VerdictsError(
            f"{len(refused):,} of {len(messages):,} requests were refused: {refused[0]}"
            "; the other verdicts are kept, and the same command retries these"
        )
