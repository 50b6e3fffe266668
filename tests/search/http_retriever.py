"""An HTTP retriever in a user's file, given by value in a config.

The server answers `POST {"queries": [...], "k": 3}` with a list of
`{"id", "contents", "score"}` for each query.
"""

import dataclasses
import json
import urllib.error
import urllib.request

from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage


@dataclasses.dataclass(frozen=True, kw_only=True)
class HttpRetriever:
    """Requests passages from a server. Its errors are OSError, so they are retried."""

    url: str
    timeout_s: float = 10.0

    def search(self, queries, k):
        request = urllib.request.Request(
            self.url,
            data=json.dumps({"queries": list(queries), "k": k}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
                answers = json.load(reply)
        except urllib.error.HTTPError as error:
            error.close()
            raise
        return [
            [
                Hit(
                    passage=Passage(id=h["id"], contents=h["contents"]),
                    score=h["score"],
                )
                for h in hits
            ]
            for hits in answers
        ]


LOCAL = HttpRetriever(url="http://127.0.0.1:8000/retrieve")
