"""Servers and tokenizers that don't fit, and servers that fail for a while."""

import threading
import time

import pytest

from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.served.check import check_server
from jaxsearch.served.client import ModelClient, ServerSettings, model_url
from jaxsearch.served.completions import ModelError, RequestFields
from jaxsearch.served.model_list import Card, find_model
from jaxsearch.trajectory import Status
from jaxsearch.try_again import TryAgainError
from tests.served.model_server import model_server
from tests.served.test_sampler import rolled_out

FIELDS = RequestFields(model="policy", stop=("go",))
PROMPT = [2, 3, 4]


def checked(kit, url, *, fields=FIELDS, tokenizer=None, notes=None):
    client = ModelClient(url, ServerSettings(timeout_s=20.0))
    find_model(client, fields.model)
    return check_server(
        client,
        fields,
        tokenizer or kit.tokenizer,
        PROMPT,
        [].append if notes is None else notes.append,
    )


def refusal(kit, url, **options):
    """The one line of a refusal."""
    with pytest.raises(ValueError) as caught:
        checked(kit, url, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_with_ids_needs_no_note(kit, known_model):
    notes = []
    with model_server(known_model, max_model_len=80) as (url, _):
        found = checked(kit, url, notes=notes)
        client = ModelClient(url, ServerSettings())
        # The name of an adapter in SGLang.
        cards = [find_model(client, name) for name in ("policy", "", "policy:mine")]
    assert found == (FIELDS, True) and not notes
    assert cards == [Card("policy", 80), Card("policy", 80), Card("policy:mine", 80)]


def test_a_server_of_texts_alone_is_named(kit, known_model):
    notes = []
    with model_server(known_model, keeps_ids=False, echoes=True) as (url, _):
        found = checked(kit, url, notes=notes)
    assert found == (FIELDS, False)
    [note] = notes
    assert url in note and "no token ids" in note


def test_a_server_may_refuse_fields_that_openai_does_not_have(kit, known_model):
    notes = []
    with model_server(known_model, knows_extras=False) as (url, _):
        found = checked(kit, url, notes=notes)
    assert not found.fields.has_extras and not found.has_ids
    assert "unknown field top_k" in notes[0]


def test_a_chat_server_is_one_line(kit, known_model):
    with model_server(known_model, is_chat_only=True) as (url, _):
        assert "no completions, only chat" in refusal(kit, url)


@pytest.mark.parametrize("name", [["policy"], None, 3])
def test_a_list_of_models_without_names_is_one_line(known_model, name):
    with model_server(known_model, name=name) as (url, _):
        client = ModelClient(url, ServerSettings())
        assert find_model(client, "policy") == Card("policy", None)
        with pytest.raises(ValueError, match="lists no model; give a name"):
            find_model(client, "")


def test_a_wrong_model_name_is_one_line(kit, known_model):
    with model_server(known_model, name="other") as (url, _):
        assert "has no model 'policy': it serves 'other'" in refusal(kit, url)


def test_a_token_comes_from_the_environment(kit, known_model, monkeypatch):
    with model_server(known_model, token="secret-1") as (url, _):
        assert "JAXSEARCH_MODEL_TOKEN is not set" in refusal(kit, url)
        monkeypatch.setenv("JAXSEARCH_MODEL_TOKEN", "secret-2")
        line = refusal(kit, url)
        assert "JAXSEARCH_MODEL_TOKEN is another one" in line and "secret" not in line
        monkeypatch.setenv("JAXSEARCH_MODEL_TOKEN", "secret-1")
        assert checked(kit, url).has_ids


def test_a_port_without_a_server_is_one_line(kit):
    assert "cannot connect" in refusal(kit, "http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("pieces", "ways", "message"),
    [
        (["▁red"], {}, "sampled the id"),
        ([f"▁word{i}" for i in range(20)], {}, "is not the model's: it reads as"),
        (
            [f"▁word{i}" for i in range(20)],
            {"keeps_ids": False, "echoes": True},
            "is not the model's: it reads as",
        ),
    ],
)
def test_another_tokenizer_is_one_line(kit, known_model, pieces, ways, message):
    """Ids beyond its vocabulary, and ids that spell something else."""
    with model_server(known_model, **ways) as (url, _):
        line = refusal(kit, url, tokenizer=pieces_tokenizer(pieces))
    assert message in line and "--tokenizer" in line


def test_ids_that_the_model_lacks_are_one_line(kit, known_model):
    with model_server(known_model, num_ids=4) as (url, _):
        line = refusal(kit, url)
    assert (
        "Token id 4 is out of vocabulary" in line and "is --tokenizer that of" in line
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host:8000/v1/", "http://host:8000/v1"),
        ("https://host/v1/completions", "https://host/v1"),
    ],
)
def test_addresses(text, expected):
    assert model_url(text) == expected


@pytest.mark.parametrize(
    "text", ["host:8000", "ftp://host/v1", "http://a:b@host/v1", "http://host/v1?key=x"]
)
def test_what_is_no_address_is_one_line(text):
    with pytest.raises(ValueError, match="http://HOST:PORT/v1") as caught:
        model_url(text)
    assert "key=x" not in str(caught.value) and "a:b" not in str(caught.value)


@pytest.mark.slow
def test_failures_that_pass_are_tried_again(kit, questions, random_model, served):
    expected = None
    for failures in ([], [429, 503, 408]):
        with model_server(random_model, failures=failures) as (url, _):
            done = rolled_out(served(url), kit, questions[:1])
        texts = [one.segments for one in done]
        assert texts == (expected or texts)
        expected = texts


@pytest.mark.slow
def test_a_server_that_hangs_is_tried_again(known_model):
    body = FIELDS.body(PROMPT, max_tokens=1)
    with model_server(known_model) as (url, _):  # compiles what an answer needs
        ModelClient(url, ServerSettings()).ask(body, threading.Event())
    with model_server(known_model, failures=[4.0]) as (url, ways):
        client = ModelClient(url, ServerSettings(timeout_s=2.5, attempts=2))
        client.ask(body, threading.Event())
    assert client.num_retries == 1 and len(ways.bodies) == 2


def test_nothing_waits_behind_the_last_attempt(known_model):
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    settings = ServerSettings(attempts=3)
    with model_server(known_model, failures=[503] * 3) as (url, ways):
        client = ModelClient(url, settings)
        with pytest.raises(ModelError, match="no answer in 3 attempts"):
            client.ask(FIELDS.body(PROMPT, max_tokens=1), Stop())
    assert len(ways.bodies) == 3 and len(waits) == 2


def test_a_failure_has_its_reason_and_the_others_go_on(
    kit, questions, random_model, served
):
    settings = ServerSettings(concurrency=1, attempts=2)
    with model_server(random_model, failures=[500, 500]) as (url, _):
        done = rolled_out(served(url, settings=settings), kit, questions[:3])
    assert [one.status is Status.MODEL_FAILED for one in done] == [True, False, False]
    assert "no answer in 2 attempts" in done[0].failure
    assert "status 500" in done[0].failure and not done[1].failure
    assert not done[0].is_judged and done[1].is_judged


def test_a_refused_prompt_is_not_tried_again(kit, questions, random_model, served):
    with model_server(random_model, failures=[400]) as (url, ways):
        [one] = rolled_out(served(url), kit, questions[:1])
    assert one.status is Status.MODEL_FAILED and "1 attempt:" in one.failure
    assert len(ways.bodies) == 1


def test_a_server_that_is_gone_ends_the_run(kit, questions, random_model, served):
    settings = ServerSettings(concurrency=4, attempts=1)
    with (
        model_server(random_model, failures=[503] * 99) as (url, ways),
        pytest.raises(TryAgainError, match="16 questions in a row"),
    ):
        rolled_out(served(url, settings=settings), kit, questions, group_size=9)
    assert len(ways.bodies) < 40


def test_pauses_end_when_the_run_does(random_model):
    stop = threading.Event()
    stop.set()
    started = time.monotonic()
    with model_server(random_model, failures=[503] * 9) as (url, _):
        client = ModelClient(url, ServerSettings())
        with pytest.raises(ModelError):
            client.ask(FIELDS.body(PROMPT, max_tokens=1), stop)
    assert time.monotonic() - started < 5
