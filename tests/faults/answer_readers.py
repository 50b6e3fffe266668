"""Answers of model servers, judges and Milvus, and pages of the web."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.json_files import json_value
from jaxsearch.protocol import QUICKSTART
from jaxsearch.remote.milvus import best_hits
from jaxsearch.remote.milvus_client import parse_about
from jaxsearch.search.index import SearchError
from jaxsearch.served.check import check_server
from jaxsearch.served.client import ModelClient, ServerSettings
from jaxsearch.served.completions import ModelError, RequestFields
from jaxsearch.served.model_list import find_model
from jaxsearch.served.turn import TurnReader
from jaxsearch.verdicts.model import NoReplyError, VerdictModel
from jaxsearch.verdicts.settings import VerdictSettings
from jaxsearch.verdicts.verdict import opinion
from jaxsearch.web.fetch import FetchedPage, PageError
from jaxsearch.web.page_text import PageReader
from tests.faults.reader_files import Reader, _note, write_json
from tests.remote.servers import serving

TAG = QUICKSTART.search.close
TURN = f" <search> Parruk {TAG}"


def _completion(tokenizer: Tokenizer, **fields) -> dict:
    ids = tokenizer.encode(TURN)
    choice = {
        "index": 0,
        "text": TURN,
        "finish_reason": "stop",
        "stop_reason": TAG,
        "logprobs": {"token_logprobs": [-0.5] * len(ids)},
        "token_ids": ids,
        "prompt_token_ids": tokenizer.encode("Parruk"),
    }
    return {"object": "text_completion", "choices": [choice | fields]}


MODELS = {"data": [{"id": "m", "max_model_len": 4096}, {"id": "n", "root": "x"}]}
REPLY = json.dumps({"reason": "so", "verdict": "wrong"})
JUDGED = {
    "choices": [{"message": {"role": "assistant", "content": f"</think>{REPLY}"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


@contextlib.contextmanager
def model_answer_readers(root: Path) -> Iterator[dict[str, Reader]]:
    """Readers that ask a real server on loopback, which answers with the files."""
    tokenizer = Tokenizer.load("jaxsearch:quickstart")
    served: dict[str, tuple[Path, int]] = {}

    def answer(exchange, method, path, asked):
        file, status = served[path]
        exchange.raw(file.read_bytes(), status)

    turns = TurnReader(tokenizer, (TAG,), QUICKSTART)
    fields = RequestFields(model="m", stop=(TAG,))
    prompt = tokenizer.encode("Parruk")
    # One attempt: the pauses before others would be most of the time.
    settings = ServerSettings(attempts=1, timeout_s=20.0)
    refusals = (ModelError, SearchError, NoReplyError, ValueError)
    with serving(answer) as [server]:
        client = ModelClient(server.url, settings)

        def ask():
            found = client.ask(fields.body(prompt, max_tokens=8), threading.Event())
            for room in (1, 5, 100):
                turn = turns.read(found, room)
                np.asarray(turn.ids, np.int32)
                np.asarray(turn.logprobs, np.float32)
                tokenizer.decode(turn.ids).encode()

        def reader(path: Path, status: int = 200) -> Reader:
            def read():
                served["/completions"] = path, status
                ask()

            return Reader(read, [path], refusals)

        completion = _completion(tokenizer)
        ids = write_json(root / "ids.json", completion)
        text = write_json(root / "text.json", _completion(tokenizer, token_ids=None))
        cut = tokenizer.encode(TURN.removesuffix(TAG))
        open_tag = write_json(root / "cut.json", _completion(tokenizer, token_ids=cut))
        models = write_json(root / "models.json", MODELS)

        def checked():
            served["/completions"] = ids, 200
            check_server(client, fields, tokenizer, prompt, _note)

        def listed():
            served["/models"] = models, 200
            assert len(find_model(client, "m").name) < 100
            with contextlib.suppress(ValueError):
                find_model(client, "")

        judge = VerdictModel(
            VerdictSettings(url=server.url, model="m", attempts=1, timeout_s=20.0)
        )
        judged = write_json(root / "judged.json", JUDGED)
        reply = root / "reply.txt"
        reply.write_text(f"```json\n{REPLY}\n```")

        def verdict():
            served["/chat/completions"] = judged, 200
            found = opinion(judge.ask("Is it right?").text)
            found.reason.encode()

        yield {
            "model ids": reader(ids),
            "model text": reader(text),
            "model cut": reader(open_tag),
            "model error": Reader(_failing(served, ids, ask), [ids], refusals),
            "model check": Reader(checked, [ids], refusals),
            "model list": Reader(listed, [models], refusals),
            "judge": Reader(verdict, [judged], refusals),
            "judge reply": Reader(
                lambda: opinion(reply.read_bytes().decode(errors="replace")), [reply]
            ),
        }


def _failing(served, path, ask):
    """Reads the file as an error of the server."""

    def read():
        for status in (400, 503):
            served["/completions"] = path, status
            with contextlib.suppress(ModelError, SearchError):
                ask()

    return read


ABOUT = {
    "corpus": "c0ffee",
    "encoder": "e",
    "encoder_name": "tfidf",
    "num_passages": 3,
    "dims": 8,
    "index_type": "HNSW",
    "is_complete": True,
}
FOUND = [
    {"distance": 0.5, "entity": {"number": n, "id": str(n), "contents": "Ann\nis old"}}
    for n in range(3)
]


def milvus_readers(root: Path) -> dict[str, Reader]:
    """Rows of a database, as its client returns them."""
    about = write_json(root / "about.json", ABOUT)
    found = write_json(root / "found.json", FOUND)

    def hits():
        for hit in best_hits(json_value(found.read_bytes()), 2):
            (hit.passage.id + hit.passage.contents).encode()

    return {
        "milvus about": Reader(
            lambda: parse_about(
                about.read_bytes().decode("utf-8", "surrogateescape"), "wiki"
            ),
            [about],
        ),
        "milvus hits": Reader(hits, [found], (SearchError, ValueError)),
    }


PAGES = Path(__file__).parents[1] / "web" / "pages"


@contextlib.contextmanager
def page_readers(root: Path) -> Iterator[dict[str, Reader]]:
    """Pages that are parsed in the process of the web's retriever."""
    pages = PageReader(num_processes=1)

    def reader(name: str, content_type: str) -> Reader:
        path = root / name
        path.write_bytes((PAGES / name).read_bytes())

        def read():
            body = path.read_bytes()
            page = FetchedPage(url="http://a/", content_type=content_type, body=body)
            found = pages.read(page)
            assert len(found.text) <= 4_000_000
            (found.title + found.text).encode()

        return Reader(read, [path], (PageError,))

    yield {
        "page utf-8": reader("news.html", "text/html; charset=utf-8"),
        "page tables": reader("tables.html", "text/html"),
        "page old": reader("latin1.html", "text/html"),
        "page utf-16": reader("utf16.html", "text/html"),
        "page plain": reader("news.txt", "text/plain; charset=iso-2022-jp"),
    }
    pages.close()
