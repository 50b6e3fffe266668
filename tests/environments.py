"""Environments for tests of rollouts."""

from jaxsearch.env.environment import RolloutId
from jaxsearch.env.search import SearchEnvironment
from jaxsearch.env.token_environment import TokenEnvironment


def search_environment(
    retriever,
    protocol,
    tokenizer,
    *,
    max_observation_len,
    num_passages=1,
    on_search_failure="drop",
    has_reminder=False,
):
    """A search environment whose observations are token ids, as the sampler needs."""
    search = SearchEnvironment(
        retriever=retriever,
        protocol=protocol,
        num_passages=num_passages,
        on_search_failure=on_search_failure,
        has_reminder=has_reminder,
    )
    return TokenEnvironment(
        environment=search,
        protocol=protocol,
        tokenizer=tokenizer,
        max_observation_len=max_observation_len,
    )


def turns(*texts):
    """Turns of distinct rollouts."""
    return [(RolloutId(0, i, 0), text) for i, text in enumerate(texts)]
