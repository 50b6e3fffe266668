"""Turns from the answers of servers that return more or less."""

import math

import pytest

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol import QUICKSTART
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.served.completions import (
    Answer,
    ChatOnlyError,
    ModelError,
    RequestFields,
    parse_answer,
)
from jaxsearch.served.turn import Ending, TurnReader

TAG = QUICKSTART.search.close
TURN = f" <think> Parruk was born in Zegbol </think> <search> Parruk {TAG}"
ANSWER = " <think> so </think> <answer> \\boxed{ Zegbol } </answer>"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load("jaxsearch:quickstart")


@pytest.fixture(scope="module")
def reader(tokenizer):
    return TurnReader(tokenizer, (TAG, "</call>"), QUICKSTART)


def answer(text="", ids=None, *, finish="stop", matched=None, logprobs=()):
    return Answer(text, ids, list(logprobs), finish, matched, None)


def cut(text):
    return text.removesuffix(TAG)


def test_a_text_alone_is_encoded_up_to_its_tag(reader, tokenizer):
    ids = tokenizer.encode(TURN)
    for found in (answer(TURN), answer(TURN, matched=TAG), answer(f"{TURN} Vasdib")):
        turn = reader.read(found, 99)
        assert (turn.ids, turn.ending) == (ids, Ending.TAG)
    assert turn.num_cut > 0
    assert all(map(math.isnan, turn.logprobs)) and len(turn.logprobs) == len(ids)


def test_a_text_is_encoded_no_further_than_there_is_room(
    reader, tokenizer, monkeypatch
):
    encode, lengths = Tokenizer.encode, []

    def counting(self, text):
        lengths.append(len(text))
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", counting)
    turn = reader.read(answer(" Parruk" * 100_000, finish="length"), 9)
    assert turn.ids == encode(tokenizer, " Parruk" * 9)[:9]
    assert 0 < max(lengths) < 10_000


@pytest.mark.parametrize("matched", [TAG, None])
@pytest.mark.parametrize("left", ["", "</", "</sea"])
def test_a_tag_that_was_cut_off_is_put_back(reader, tokenizer, matched, left):
    """Named by the server, or known from the search that the text left open."""
    turn = reader.read(answer(cut(TURN) + left, matched=matched), 99)
    assert tokenizer.decode(turn.ids) == TURN
    assert turn.ending is Ending.TAG
    # A vocabulary of words knows the tag only behind a space.
    bare = reader.read(answer(cut(TURN).rstrip(), matched=matched), 99)
    assert bare.ids == turn.ids


def test_a_tag_is_put_back_behind_ids(reader, tokenizer):
    ids = tokenizer.encode(TURN)[:-1]
    turn = reader.read(answer(ids=ids, logprobs=[-0.5] * len(ids)), 99)
    assert tokenizer.decode(turn.ids) == TURN and turn.ids[: len(ids)] == ids
    assert turn.ending is Ending.TAG
    assert turn.logprobs[: len(ids)] == [-0.5] * len(ids)
    assert math.isnan(turn.logprobs[-1])


def test_logprobs_are_of_the_tokens_that_stay_the_same(reader, tokenizer):
    """The tag that is put back replaces the pieces of its beginning."""
    left = cut(TURN) + "</sea"
    logprobs = [-0.5] * len(tokenizer.encode(left))
    turn = reader.read(answer(left, matched=TAG, logprobs=logprobs), 99)
    assert tokenizer.decode(turn.ids) == TURN
    same = len(turn.ids) - 1
    assert turn.logprobs[:same] == [-0.5] * same and math.isnan(turn.logprobs[-1])


@pytest.mark.parametrize("matched", [None, 0, "<|im_end|>"])
def test_an_end_token_that_was_cut_off_is_put_back(reader, tokenizer, matched):
    ids = [*tokenizer.encode(ANSWER), tokenizer.end_id]
    whole = answer(tokenizer.decode(ids))
    for found in (whole, answer(ANSWER, matched=matched)):
        turn = reader.read(found, 99)
        assert (turn.ids, turn.ending) == (ids, Ending.END)
    # A server may sample on behind it.
    turn = reader.read(answer(ids=[*ids, *ids], matched=matched), 99)
    assert (turn.ids, turn.ending, turn.num_cut) == (ids, Ending.END, len(ids))
    for given in (ids, ids[:-1]):
        turn = reader.read(answer(ids=given, matched=matched), 99)
        assert (turn.ids, turn.ending) == (ids, Ending.END)


def test_an_end_token_within_a_search_is_one_if_the_server_says_so(reader, tokenizer):
    assert reader.read(answer(cut(TURN), matched=0), 99).ending is Ending.END
    # Another end token of the server.
    [other] = tokenizer.encode(" Parruk")[:1]
    turn = reader.read(answer(cut(TURN), matched=other), 99)
    assert turn.ids[-1] == other and turn.ending is Ending.END


def test_budgets_end_turns(reader, tokenizer):
    ids = tokenizer.encode(TURN)
    assert reader.read(answer(TURN), len(ids)).ending is Ending.TAG
    for found in (answer(TURN), answer(cut(TURN)), answer(ids=ids)):
        turn = reader.read(found, len(ids) - 1)
        assert (turn.ids, turn.ending) == (ids[:-1], Ending.LENGTH)
    turn = reader.read(answer(ANSWER, finish="length"), 99)
    assert turn.ending is Ending.LENGTH and turn.ids == tokenizer.encode(ANSWER)


def test_ids_beyond_the_vocabulary_spell_nothing(reader, tokenizer):
    ids = [*tokenizer.encode(cut(TURN)), 400, *tokenizer.encode(f" {TAG}")]
    turn = reader.read(answer(ids=ids), 99)
    assert (turn.ids, turn.ending) == (ids, Ending.TAG)


def test_logprobs_of_another_number_of_tokens_are_left_out(reader):
    turn = reader.read(answer(TURN, logprobs=[-1.0, -2.0]), 99)
    assert all(map(math.isnan, turn.logprobs))


def choice(**fields):
    return {"choices": [{"text": " a", "finish_reason": "stop"} | fields]}


def test_the_fields_of_both_servers_are_read():
    vllm = choice(stop_reason=TAG, token_ids=[1, 2], prompt_token_ids=[3])
    found = parse_answer(vllm)
    assert (found.ids, found.matched, found.prompt_ids) == ([1, 2], TAG, [3])
    found = parse_answer(choice(matched_stop=7, finish_reason="length"))
    assert (found.ids, found.matched, found.finish) == (None, 7, "length")
    logprobs = {"token_logprobs": [-1, None]}
    [first, second] = parse_answer(choice(logprobs=logprobs)).logprobs
    assert first == -1.0 and math.isnan(second)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "one choice"),
        ({"choices": []}, "one choice"),
        ({"choices": [1]}, "a choice with a text"),
        (choice(text=None), "a choice with a text"),
        (choice(finish_reason="abort"), "'abort'"),
        (choice(token_ids=[1, -2]), "token_ids"),
        (choice(token_ids=[True]), "token_ids"),
        (choice(token_ids=[2**31]), "token_ids"),
        (choice(text="\ud800"), "half of a surrogate pair"),
    ],
)
def test_what_is_no_answer_is_refused(data, message):
    with pytest.raises(ModelError, match=message):
        parse_answer(data)


def test_a_message_is_one_of_a_chat():
    with pytest.raises(ChatOnlyError):
        parse_answer({"choices": [{"message": {"content": "a"}}]})


def test_a_request_says_everything_that_a_server_would_assume():
    """Servers take missing parameters from the model's generation_config."""
    fields = RequestFields(model="m", stop=(TAG,))
    body = fields.body([1], max_tokens=4)
    assert (body["top_p"], body["top_k"], body["repetition_penalty"]) == (1.0, -1, 1.0)
    assert "seed" not in body and "logprobs" not in body
    cut = RequestFields(model="m", stop=(TAG,), truncation=TopKTopP(top_k=5, top_p=0.9))
    assert (cut.body([1], max_tokens=4)["top_k"]) == 5
    plain = RequestFields(model="m", stop=(TAG,), has_extras=False, logprobs=True)
    assert plain.body([1], max_tokens=4, temperature=0.5, seed=3) == {
        "model": "m",
        "prompt": [1],
        "max_tokens": 4,
        "temperature": 0.5,
        "top_p": 1.0,
        "stop": [TAG],
        "seed": 3,
        "logprobs": 0,
    }
