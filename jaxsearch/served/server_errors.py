"""One-line errors for the first requests to a model server."""

from jaxsearch.remote.connection import RefusedRequestError, UnauthorizedError
from jaxsearch.served.completions import ChatOnlyError


def refused(url: str, model: str, error: RefusedRequestError) -> ValueError:
    """The error for a server that refuses the first request."""
    if error.status in (404, 405) and model not in str(error):
        return chat_only(url, str(error))
    # OpenAI's server says this for its chat models.
    if "chat" in str(error).replace(url, "").lower():
        return chat_only(url, str(error))
    return ValueError(
        f"the model server refuses the first prompt: {error}; is --tokenizer that of "
        "the model?"
    )


def unusable(url: str, error: Exception) -> ValueError:
    """The error for a server that does not answer as expected."""
    if isinstance(error, ChatOnlyError):
        return chat_only(url, str(error))
    if isinstance(error, UnauthorizedError):
        return ValueError(str(error))
    text = " ".join(str(error).split())
    named = text if url in text else f"{url}: {text}"
    return ValueError(f"the model server does not answer as expected: {named}")


def chat_only(url: str, reason: str) -> ValueError:
    """The error for a server that has only chat."""
    return ValueError(
        f"{url} has no completions, only chat ({reason}); a turn continues the "
        "assistant's text, which needs POST /v1/completions, as in vLLM or SGLang"
    )
