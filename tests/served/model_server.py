"""A small model server on loopback: greedy completions of a policy, in variants."""

import contextlib
import dataclasses
import json
import queue
import threading
import time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jax
import jax.numpy as jnp
import numpy as np

_BATCH = 16


class GreedyModel:
    """Continues token ids greedily, those of several requests in one batch.

    Ids from `num_ids` on are never sampled.
    """

    def __init__(self, transformer, params, tokenizer, max_len, num_ids):
        self.tokenizer = tokenizer
        self._params = params
        self._shape = (_BATCH, max_len)
        self._waiting = queue.SimpleQueue()

        @jax.jit
        def best(params, tokens, length):
            segments = (jnp.arange(max_len)[None] < length[:, None]).astype(jnp.int32)
            hidden = transformer.hidden(params, tokens, segments)
            last = jnp.take_along_axis(hidden, length[:, None, None] - 1, axis=1)[:, 0]
            logits = jnp.einsum("BD,VD->BV", last, transformer.head(params))
            logprobs = jax.nn.log_softmax(logits)
            known = jnp.arange(logits.shape[1])[None] < num_ids
            token = jnp.argmax(jnp.where(known, logits, -jnp.inf), axis=-1)
            picked = jnp.take_along_axis(logprobs, token[:, None], axis=-1)[:, 0]
            return token, picked

        self._best = best
        threading.Thread(target=self._work, daemon=True).start()

    def complete(self, prompt, max_tokens, stop):
        """(ids, log-probs, the stop tag that ended them or None, whether they ended)"""
        future = Future()
        self._waiting.put(_Row(list(prompt), max_tokens, stop, future))
        return future.result()

    def _work(self):
        rows = []
        while True:
            while len(rows) < _BATCH and not (rows and self._waiting.empty()):
                rows.append(self._waiting.get())
            tokens = np.zeros(self._shape, np.int32)
            length = np.ones(_BATCH, np.int32)
            for i, row in enumerate(rows):
                context = row.prompt + row.ids
                tokens[i, : len(context)] = context
                length[i] = len(context)
            found, logprobs = map(np.asarray, self._best(self._params, tokens, length))
            for row, token, logprob in zip(rows, found, logprobs, strict=False):
                row.take(int(token), float(logprob), self.tokenizer)
            rows = [row for row in rows if not row.future.done()]


@dataclasses.dataclass
class _Row:
    prompt: list
    max_tokens: int
    stop: tuple
    future: Future
    ids: list = dataclasses.field(default_factory=list)
    logprobs: list = dataclasses.field(default_factory=list)

    def take(self, token, logprob, tokenizer):
        self.ids.append(token)
        self.logprobs.append(logprob)
        text = tokenizer.decode(self.ids)
        tag = next((tag for tag in self.stop if tag in text), None)
        has_ended = tag is not None or token in tokenizer.end_ids
        if has_ended or len(self.ids) == self.max_tokens:
            self.future.set_result((self.ids, self.logprobs, tag, has_ended))


@dataclasses.dataclass
class Ways:
    """How the server differs from vLLM.

    Attributes:
      keeps_ids: returns the sampled ids.
      num_with_ids: only so many answers have them, the first ones; None for all.
      keeps_stop: the stop tag and the end token stay in the text.
      reason: the field that says what the server stopped at; "" for none.
      heeds_stop: samples end at stop tags.
      knows_extras: takes fields that OpenAI's API does not have.
      echoes: repeats the prompt in the text where that is asked for.
      delay_s: seconds before each answer.
      num_ids: refuses prompts with larger ids; None takes all.
      failures: statuses of the next answers, or seconds (a float) to hang.
    """

    keeps_ids: bool = True
    num_with_ids: int | None = None
    keeps_stop: bool = True
    reason: str = "stop_reason"
    heeds_stop: bool = True
    knows_extras: bool = True
    echoes: bool = False
    is_chat_only: bool = False
    token: str = ""
    name: str = "policy"
    max_model_len: int | None = None
    num_ids: int | None = None
    delay_s: float = 0.0
    failures: list = dataclasses.field(default_factory=list)
    bodies: list = dataclasses.field(default_factory=list)


EXTRAS = {
    *("top_k", "min_p", "repetition_penalty", "skip_special_tokens"),
    *("spaces_between_special_tokens", "include_stop_str_in_output", "no_stop_trim"),
    "return_token_ids",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        ways = self.server.ways
        card = {"id": ways.name, "object": "model"}
        if ways.max_model_len:
            card["max_model_len"] = ways.max_model_len
        self._respond(*self._refused() or (200, {"data": [card]}))

    def do_POST(self):
        ways = self.server.ways
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = self._refused()
        if refused:
            return self._respond(*refused)
        if ways.is_chat_only:
            return self._respond(404, {"detail": "Not Found"})
        if body["model"] != ways.name:
            message = f"The model `{body['model']}` does not exist."
            return self._respond(404, {"error": {"message": message}})
        if not ways.knows_extras and EXTRAS & body.keys():
            return self._respond(422, {"error": {"message": "unknown field top_k"}})
        if ways.num_ids and max(body["prompt"]) >= ways.num_ids:
            message = f"Token id {max(body['prompt'])} is out of vocabulary"
            return self._respond(400, {"error": {"message": message}})
        ways.bodies.append(body)
        if ways.failures:
            failure = ways.failures.pop(0)
            if isinstance(failure, int):
                return self._respond(failure, {"error": {"message": "busy"}})
            time.sleep(failure)
        time.sleep(ways.delay_s)
        self._respond(200, {"choices": [self._choice(body)]})

    def _refused(self):
        token = self.server.ways.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            return 401, {"error": {"message": "unauthorized"}}
        return None

    def _choice(self, body):
        ways, model = self.server.ways, self.server.model
        stop = tuple(body["stop"]) if ways.heeds_stop else ()
        ids, logprobs, tag, has_ended = model.complete(
            body["prompt"], body["max_tokens"], stop
        )
        text = model.tokenizer.decode(ids)
        if tag is not None:
            text = text[: text.index(tag) + (len(tag) if ways.keeps_stop else 0)]
        elif has_ended and not ways.keeps_stop:
            text = model.tokenizer.decode(ids[:-1])
        if ways.echoes and body.get("echo"):
            text = model.tokenizer.decode(body["prompt"]) + text
        choice = {"text": text, "finish_reason": "stop" if has_ended else "length"}
        if ways.reason == "stop_reason":
            choice["stop_reason"] = tag
        elif ways.reason and has_ended:
            choice[ways.reason] = ids[-1] if tag is None else tag
        has_ids = ways.keeps_ids and body.get("return_token_ids")
        if ways.num_with_ids is not None and len(ways.bodies) > ways.num_with_ids:
            has_ids = False
        if has_ids:
            choice |= {"token_ids": ids, "prompt_token_ids": body["prompt"]}
        if "logprobs" in body:
            choice["logprobs"] = {"token_logprobs": logprobs}
        return choice

    def _respond(self, status, answer):
        data = json.dumps(answer).encode()
        # A client that has not waited is gone.
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextlib.contextmanager
def model_server(model, **ways):
    """The address of a server of a model, and its ways, until the context ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.model, server.ways = model, Ways(**ways)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1", server.ways
        finally:
            server.shutdown()
            thread.join()
