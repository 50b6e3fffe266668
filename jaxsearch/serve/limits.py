"""What a server accepts, and for how long it waits."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a server. Each of them keeps one client from taking all of it.

    The defaults admit the requests of the papers' own systems: Search-R1 and ReSearch
    send the queries of a whole training batch, some of them long and malformed, in one
    request, and set no time limit.
    """

    max_queries: int = 4096  # per request
    max_query_chars: int = 32_768
    max_k: int = 1000  # passages per query
    max_passages: int = 65_536  # queries times k of a request
    max_body_bytes: int = 8 * 2**20
    max_held_bytes: int = 64 * 2**20  # bodies of all requests under way
    max_waiting: int = 8192  # queries that wait for one index
    max_batch: int = 64  # queries of one call of the retriever
    max_connections: int = 1024
    max_header_bytes: int = 16_384
    answer_s: float = 120.0  # from the whole request to its answer
    read_s: float = 30.0  # for the headers, and again for the body
    write_s: float = 120.0  # for a client to take an answer
    idle_s: float = 75.0  # a connection between two requests
    stop_s: float = 6.0  # for requests under way at the end of the server

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = vars(self)[field.name]
            if not value > 0:
                raise ValueError(f"{field.name} must be > 0, got {value}")
        if self.max_queries > self.max_waiting:
            raise ValueError(
                f"max_waiting must be at least max_queries, {self.max_queries}, or a "
                f"full request would never be accepted, got {self.max_waiting}"
            )
