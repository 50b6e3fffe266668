"""The application: indexes, their queues and their paths."""

import re
from collections.abc import Mapping

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError

import jaxsearch
from jaxsearch.serve.bad_requests import add_unknown_index, answer_invalid
from jaxsearch.serve.batcher import Batcher
from jaxsearch.serve.gate import Gate
from jaxsearch.serve.limits import Limits
from jaxsearch.serve.metrics import (
    CONTENT_TYPE,
    IndexMetrics,
    RequestMetrics,
    counts,
    gauge,
    process_samples,
    prometheus_text,
)
from jaxsearch.serve.routes import make_router
from jaxsearch.serve.served_index import ServedIndex

# The paths of an index, at the root and below its name.
INDEX_PATHS = frozenset(
    ("health", "index", "search", "batch_search", "retrieve", "queries")
)
_PATHS = INDEX_PATHS | {"metrics", "docs", "redoc", "openapi.json"}
_DESCRIPTION = """\
Search of passages in the dialects of ReSearch (`/search`, `/batch_search`), Search-R1,
verl and SkyRL (`/retrieve`) and R1-Searcher (`/queries`). Errors are JSON with one line
in `detail`, or FastAPI's list for a body with wrong fields. 503 has `Retry-After`.
"""


class SearchApp(FastAPI):
    """An ASGI application that searches; use `create_app`."""

    def __init__(self, indexes: Mapping[str, ServedIndex], limits: Limits):
        super().__init__(
            title="jaxsearch serve",
            version=jaxsearch.__version__,
            description=_DESCRIPTION,
        )
        self.limits = limits
        self.requests = RequestMetrics()
        self.index_metrics = {name: IndexMetrics() for name in indexes}
        self.batchers = {
            name: Batcher(
                index.retriever,
                self.index_metrics[name],
                max_batch=min(index.max_batch or limits.max_batch, limits.max_batch),
                max_waiting=limits.max_waiting,
                num_workers=index.num_workers,
            )
            for name, index in indexes.items()
        }

    def stop(self) -> None:
        """Refuses the requests that have no answer yet."""
        for batcher in self.batchers.values():
            batcher.stop()

    def metrics_text(self) -> str:
        """All counters in Prometheus's format."""
        waiting = [
            gauge("jaxsearch_waiting_queries", batcher.num_waiting, f'index="{name}"')
            for name, batcher in self.batchers.items()
        ]
        return prometheus_text(
            self.requests.samples(),
            *(
                metrics.samples(f'index="{name}"')
                for name, metrics in self.index_metrics.items()
            ),
            *waiting,
            *(counts(batcher.counts, name) for name, batcher in self.batchers.items()),
            process_samples(),
        )


def create_app(
    indexes: Mapping[str, ServedIndex], *, limits: Limits | None = None, token: str = ""
) -> SearchApp:
    """An application that serves these indexes.

    The first index answers at the root; each answers below its name too.

    Args:
      indexes: by name; at least one.
      limits: None for the defaults.
      token: that clients must send; "" for none.

    Raises:
      ValueError: if there is no index, or a name cannot be part of a path.
    """
    limits = limits or Limits()
    names = list(indexes)
    check_names(names)
    app = SearchApp(indexes, limits)

    @app.get("/metrics", summary="Counters in Prometheus's text format")
    async def metrics() -> Response:
        return Response(app.metrics_text(), media_type=CONTENT_TYPE)

    for number, (name, index) in enumerate(indexes.items()):
        router = make_router(name, index, app.batchers[name], limits, names)
        if number == 0:
            app.include_router(router)
        app.include_router(router, prefix=f"/{name}", include_in_schema=False)
    add_unknown_index(app, names, INDEX_PATHS)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_middleware(
        Gate,
        limits=limits,
        token=token,
        metrics=app.requests,
        paths=_PATHS,
    )
    return app


def check_names(names: list[str]) -> None:
    """Raises ValueError unless the names can be parts of paths."""
    if not names:
        raise ValueError("a server needs at least one index, got none")
    for name in names:
        if not is_name(name):
            raise ValueError(
                "the name of an index is made of letters, digits, '_', '.' and '-', "
                f"and is no path of the server ({', '.join(sorted(_PATHS))}); got "
                f"{name!r}"
            )


def is_name(name: str) -> bool:
    """Whether an index can have this name, which is a part of its paths."""
    is_word = re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", name) is not None
    return is_word and not set(name) <= {"."} and name not in _PATHS
