"""The environments of a run: for training, for evaluation, and with an empty index."""

import functools
from collections.abc import Callable

from jaxsearch.config import RunConfig
from jaxsearch.env.checks import check_own_tags, check_tags_differ
from jaxsearch.env.environment import Environment
from jaxsearch.env.limited_search import LimitedSearch
from jaxsearch.env.retries import RetryingRetriever, attempt_counts
from jaxsearch.env.search import EnvironmentInputs, SearchEnvironment
from jaxsearch.env.spelling import check_spelling
from jaxsearch.env.token_environment import TokenEnvironment, all_stop_tags
from jaxsearch.protocol import Protocol
from jaxsearch.run.inputs import Inputs
from jaxsearch.run.process_agreement import check_same
from jaxsearch.run.remote_retrievers import (
    NO_REMOTE,
    RemoteRetrievers,
    open_remote_retrievers,
)
from jaxsearch.run.retrievers import NO_ENCODERS, check_index, open_retrievers
from jaxsearch.search.exact_index import EmptyIndex
from jaxsearch.search.index import Retriever
from jaxsearch.web.check import check_web


class Environments:
    """Makes the config's environments for training and evaluation.

    Raises:
      ValueError: if the config's function returns something else, the tokenizer cannot
        spell a tag, or the budget of observations is too small for the environment.
    """

    def __init__(self, config: RunConfig, inputs: Inputs):
        self._config = config
        self._inputs = inputs
        self._num_empty = 0
        self._encoders = NO_ENCODERS
        # Needs no index, so it also serves as an early check of the config's function.
        self.empty = self._made(self._open_empty)
        check_spelling(inputs.tokenizer, inputs.protocol, self.empty.environment)

    @functools.cached_property
    def training(self) -> TokenEnvironment:
        """Answers turns in training. Opens or builds the index on first use."""
        return self._made(lambda: self._retrievers[0])

    @functools.cached_property
    def heldout(self) -> TokenEnvironment:
        """Answers turns on held-out questions; opens or builds the index if needed."""
        return self._made(lambda: self._retrievers[1])

    def check_search(self) -> None:
        """Checks the retriever or index if the run uses search; writes nothing.

        A custom retriever is opened and stays open, as are search servers.

        Raises:
          ValueError: if the retriever or the index is invalid, or no server answers.
        """
        if not self.has_search:
            return
        check_same(self.remote.searched, "search servers")
        retrieval = self._config.retrieval
        if retrieval.retriever is not None:
            _ = self._retrievers
        elif retrieval.web is not None:
            check_web(retrieval.web, self._config.web)
        else:
            self._encoders = check_index(self._config, self._inputs)

    @property
    def has_search(self) -> bool:
        """Whether the config's environment uses search."""
        return self._num_empty > 0

    @property
    def stop_tags(self) -> tuple[str, ...]:
        """Strings that end a turn, from the protocol and the tools."""
        return self.empty.stop_tags

    @functools.cached_property
    def remote(self) -> RemoteRetrievers:
        """The search servers of the config, opened on first use."""
        has_url = self.has_search and self._config.retrieval.url
        return open_remote_retrievers(self._config.retrieval) if has_url else NO_REMOTE

    def counts(self) -> dict[str, float]:
        """Counts of the training's retriever so far, by the name of their metric.

        The names are the same in every process, whatever was searched.
        """
        if not self.has_search:
            return attempt_counts()
        return self._retrievers[0].search_counts()

    @functools.cached_property
    def _retrievers(self) -> tuple[RetryingRetriever, RetryingRetriever]:
        retrieval = self._config.retrieval
        train, heldout = (
            RetryingRetriever(
                retriever, attempts=retrieval.attempts, timeout_s=retrieval.timeout_s
            )
            for retriever in open_retrievers(
                self._config, self._inputs, self._encoders, self.remote
            )
        )
        return train, heldout

    def _open_empty(self) -> EmptyIndex:
        self._num_empty += 1
        return EmptyIndex()

    def _made(self, retriever: Callable[[], Retriever]) -> TokenEnvironment:
        config, protocol = self._config, self._inputs.protocol
        made = make_environment(config, protocol, retriever)
        return TokenEnvironment(
            environment=made,
            protocol=protocol,
            tokenizer=self._inputs.tokenizer,
            max_observation_len=config.rollout.max_observation_len,
        )


def make_environment(
    config: RunConfig, protocol: Protocol, retriever: Callable[[], Retriever]
) -> Environment:
    """The config's environment.

    Args:
      retriever: opens the retriever of its searches, if it has any.

    Raises:
      ValueError: if the config's function makes something else.
    """

    def search() -> Environment:
        limit = protocol.max_searches
        found = SearchEnvironment(
            # Without a search there is no index to open.
            retriever=EmptyIndex() if limit == 0 else retriever(),
            protocol=protocol,
            num_passages=config.retrieval.num_passages,
            on_search_failure=config.rollout.on_search_failure,
            has_reminder=config.rollout.has_reminder,
        )
        return found if limit is None else LimitedSearch(found, limit, protocol.enough)

    made = config.environment(EnvironmentInputs(protocol=protocol, search=search))
    if not isinstance(made, Environment):
        raise ValueError(
            "environment must be a function that returns an Environment, got "
            f"{made!r:.80} from {config.environment!r:.80}"
        )
    return made


def checked_stop_tags(config: RunConfig, protocol: Protocol) -> tuple[str, ...]:
    """Strings that end a turn, from the protocol and the tools; opens no index.

    Raises:
      ValueError: if the config's function makes something else, or tags are malformed.
    """
    environment = make_environment(config, protocol, EmptyIndex)
    check_own_tags(environment)
    check_tags_differ(environment, protocol)
    return all_stop_tags(protocol, environment)
