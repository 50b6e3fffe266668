"""`jaxsearch judge`: verdicts of a chat endpoint on loopback."""

import contextlib
import gzip
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.json_lines import read_lines, replace_lines
from jaxsearch.train import train
from jaxsearch.verdicts.cache import VerdictCache
from jaxsearch.web.cache import connected
from tests.tiny import tiny_config
from tests.verdicts.chat_server import Answer, chat_server, question_in, verdict

SCORED = Path(__file__).resolve().parents[3] / "shared/conformance/scored_rollouts"
KEY = "sk-secret-1234"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JUDGE_API_KEY", raising=False)


@pytest.fixture
def predictions(tmp_path):
    """Twenty predictions; every third is wrong according to the field "human"."""
    lines = [
        {
            "id": f"q{i}",
            "question": f"What is {i}?",
            "golden_answers": [f"answer {i}"],
            "prediction": f" answer {i if i % 3 else i + 1} ",
            "human": str(bool(i % 3)),
        }
        for i in range(20)
    ]
    path = tmp_path / "predictions.jsonl"
    replace_lines(path, lines)
    return path


def by_number(message: str) -> Answer:
    """The verdict of the field "human"."""
    number = int(question_in(message).removeprefix("What is ").removesuffix("?"))
    return verdict("correct" if number % 3 else "wrong")


def judge(server, path, *words: str) -> int:
    named = ["--judge-url", server.url, "--judge-model", "m"]
    return main(["judge", str(path), *named, *words, "--json"])


def printed(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys) -> str:
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert "Traceback" not in captured.err and KEY not in captured.err + captured.out
    return lines[-1]


def test_verdicts_are_counted_and_agree(predictions, capsys, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", KEY)
    with chat_server(by_number) as server:
        words = ("--agree-with", "human", "--judge-price", "1", "10")
        assert judge(server, predictions, *words) == 0
    found = printed(capsys)
    expected = {"n": 20, "correct": 13, "wrong": 7, "unclear": 0, "no_verdict": 0}
    assert expected.items() <= found.items()
    assert found["accuracy"] == 13 / 20
    assert (found["agreement"], found["kappa"], found["compared"]) == (1.0, 1.0, 20)
    assert (found["requests"], found["cached"]) == (20, 0)
    assert (found["prompt_tokens"], found["completion_tokens"]) == (2000, 200)
    assert found["usd"] == pytest.approx((2000 * 1 + 200 * 10) / 1e6)
    lines = read_lines(predictions.with_name("verdicts.jsonl"))
    assert sorted(line["line"] for line in lines) == list(range(1, 21))
    assert {line["id"] for line in lines if line["verdict"] == "wrong"} == {
        f"q{i}" for i in range(0, 20, 3)
    }
    assert set(server.keys) == {f"Bearer {KEY}"}
    [request, *_] = server.requests
    assert (request["model"], request["temperature"]) == ("m", 0)
    assert KEY not in predictions.with_name("verdicts.jsonl").read_text()


def test_a_judge_that_errs_in_one_of_ten(predictions, capsys):
    def errs(message: str) -> Answer:
        found = by_number(message)
        if question_in(message) not in ("What is 1?", "What is 3?"):
            return found
        return verdict("wrong" if "correct" in found.text else "correct")

    with chat_server(errs) as server:
        assert judge(server, predictions, "--agree-with", "human") == 0
    found = printed(capsys)
    # 13 of 20 are right according to both: 12 in common, 6 wrong in common.
    chance = (13 / 20) ** 2 + (7 / 20) ** 2
    assert found["agreement"] == 0.9
    assert found["kappa"] == pytest.approx((0.9 - chance) / (1 - chance))


def test_nothing_is_asked_twice(predictions, tmp_path, capsys):
    with chat_server(by_number) as server:
        assert judge(server, predictions) == 0
        first = (tmp_path / "verdicts.jsonl").read_bytes()
        assert judge(server, predictions) == 0
        assert (tmp_path / "verdicts.jsonl").read_bytes() == first
        # From the cache, into another file.
        other = ("--out", str(tmp_path / "other.jsonl"))
        assert judge(server, predictions, *other) == 0
        found = printed(capsys)
        assert (found["requests"], found["cached"], found["correct"]) == (0, 20, 13)
        assert len(server.requests) == 20
        # Another model, another prompt, and other golden answers are other questions.
        fresh = ("--out", str(tmp_path / "third.jsonl"), "--judge-model", "n")
        assert judge(server, predictions, *fresh) == 0
        assert len(server.requests) == 40


def test_two_commands_do_not_write_to_one_file(predictions, tmp_path, capsys):
    """The second is refused while the first has a request under way."""
    is_asked, may_answer = threading.Event(), threading.Event()

    def waiting(message: str) -> Answer:
        is_asked.set()
        assert may_answer.wait(60.0)
        return by_number(message)

    with chat_server(waiting) as server:
        first = threading.Thread(target=judge, args=(server, predictions))
        first.start()
        assert is_asked.wait(60.0)
        out = tmp_path / "verdicts.jsonl"
        # In a process of its own, as a user's second command is.
        command = [sys.executable, "-m", "jaxsearch", "judge", str(predictions)]
        named = ["--judge-url", server.url, "--judge-model", "m"]
        with subprocess.Popen([*command, *named], stderr=subprocess.PIPE) as second:
            with contextlib.suppress(subprocess.TimeoutExpired):
                second.wait(30.0)
            may_answer.set()
            said = second.stderr.read().decode()
        first.join()
    assert second.returncode == 75, said
    assert f"another process writes verdicts to {out}" in said
    assert sorted(line["line"] for line in read_lines(out)) == [*range(1, 21)]


def test_a_cache_that_cannot_be_written_loses_no_reply(predictions, tmp_path, capsys):
    """As on a full disk: the reply is in --out, and the command continues."""
    cache = tmp_path / "judge"
    named = ("--judge-cache", str(cache), "--judge-concurrency", "1")
    full = (
        "CREATE TRIGGER full BEFORE INSERT ON verdicts "
        "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    with connected(VerdictCache(cache).path) as connection:
        connection.execute(full)
    with chat_server(by_number) as server:
        assert judge(server, predictions, *named) == 2
        line = refused(capsys)
        assert "disk is full" in line and "--judge-cache" in line
        [kept] = read_lines(tmp_path / "verdicts.jsonl")
        assert kept["verdict"] == ("wrong" if kept["id"] == "q0" else "correct")
        other = ("--judge-cache", str(tmp_path / "other"))
        assert judge(server, predictions, *other) == 0
    found = printed(capsys)
    assert (found["n"], found["requests"]) == (20, 19)


def test_a_cache_that_cannot_be_read_is_one_line(predictions, tmp_path, capsys):
    cache = tmp_path / "judge"
    with connected(VerdictCache(cache).path) as connection:
        connection.execute("DROP TABLE verdicts")
        connection.execute("CREATE TABLE verdicts (of TEXT)")
    with chat_server(by_number) as server:
        assert judge(server, predictions, "--judge-cache", str(cache)) == 2
    line = refused(capsys)
    assert "no such column: key" in line and "--judge-cache" in line
    assert not server.requests


def test_equal_predictions_are_asked_about_once(predictions, capsys):
    replace_lines(predictions, read_lines(predictions)[:3] * 4)
    with chat_server(by_number) as server:
        assert judge(server, predictions) == 0
    assert printed(capsys)["n"] == 12 and len(server.requests) == 3


def test_no_prediction_is_wrong_and_not_asked_about(predictions, capsys):
    lines = read_lines(predictions)
    lines[1]["prediction"], lines[2]["prediction"] = None, " "
    replace_lines(predictions, lines)
    with chat_server(by_number) as server:
        assert judge(server, predictions) == 0
    found = printed(capsys)
    assert (found["wrong"], found["without_prediction"]) == (9, 2)
    assert len(server.requests) == 18


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('```json\n{"verdict": "unclear"}\n```', "unclear"),
        ('<think>is it "wrong"?</think> {"verdict": "correct"}', "correct"),
        ("The verdict is correct.", None),
        ('{"verdict": "unclear", "reason": "cut \\ud83d"}', "unclear"),
        ('{"verdict": "Correct"}', None),
        ('{"verdict": ["correct"]}', None),
        ('{"verdict": "correct"} {"verdict": "wrong"}', None),
        ("[" * 20_000, None),
        ("", None),
    ],
)
def test_what_is_no_verdict_is_not_guessed(
    predictions, tmp_path, capsys, text, expected
):
    def answer(message: str) -> Answer:
        odd = question_in(message) == "What is 4?"
        return Answer(text) if odd else by_number(message)

    with chat_server(answer) as server:
        assert judge(server, predictions, "--agree-with", "human") == 0
    found = printed(capsys)
    assert found["no_verdict"] == (expected is None)
    assert found["compared"] == 20 - (expected is None)
    lines = read_lines(tmp_path / "verdicts.jsonl")
    assert [one["verdict"] for one in lines if one["id"] == "q4"] == [expected]


def test_a_judge_that_answers_only_nonsense(predictions, capsys):
    with chat_server(lambda message: Answer("\x1b[2J42")) as server:
        assert judge(server, predictions) == 1
    assert "none of 20 replies has a verdict" in refused(capsys)


def test_busy_servers_are_asked_again(predictions, capsys):
    failures = iter([408, 429, 500, 502, 503])
    lock = threading.Lock()

    def answer(message: str) -> Answer:
        with lock:
            status = next(failures, 200)
        busy = Answer("busy", status, (("retry-after", "0.1"),))
        return by_number(message) if status == 200 else busy

    with chat_server(answer) as server:
        assert judge(server, predictions) == 0
    assert printed(capsys)["correct"] == 13
    assert len(server.requests) == 25


def test_an_outage_loses_nothing(predictions, tmp_path, capsys):
    def fails_at_7(message: str) -> Answer:
        down = question_in(message) == "What is 7?"
        return Answer("down", 503) if down else by_number(message)

    words = ("--judge-attempts", "2", "--judge-concurrency", "1")
    with chat_server(fails_at_7) as server:
        assert judge(server, predictions, *words) == 75
        assert "the same command continues" in refused(capsys)
        there = len(read_lines(tmp_path / "verdicts.jsonl"))
        assert 7 <= there < 20
        server.answer = by_number
        assert judge(server, predictions, *words) == 0
        assert printed(capsys)["requests"] == 20 - there


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "JUDGE_API_KEY is not set"), (404, "no such model"), (402, "status 402")],
)
def test_an_endpoint_that_refuses(predictions, capsys, status, said):
    with chat_server(lambda message: Answer("no such model", status)) as server:
        assert judge(server, predictions, "--judge-concurrency", "2") == 2
    assert said in refused(capsys)
    assert len(server.requests) < 10


def test_a_key_that_is_refused_is_not_shown(predictions, capsys, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", KEY)
    with chat_server(lambda message: Answer(f"bad key {KEY}", 401)) as server:
        assert judge(server, predictions) == 2
    assert "JUDGE_API_KEY is another one" in refused(capsys)


def test_a_request_that_is_refused(predictions, capsys):
    def answer(message: str) -> Answer:
        too_long = question_in(message) == "What is 5?"
        return Answer("too long", 400) if too_long else by_number(message)

    with chat_server(answer) as server:
        assert judge(server, predictions) == 1
        assert "1 of 20 requests were refused" in refused(capsys)
        server.answer = by_number
        assert judge(server, predictions) == 0
    assert printed(capsys)["requests"] == 1


def test_files_that_are_cut_in_the_middle_of_a_line(predictions, tmp_path, capsys):
    whole = predictions.read_bytes()
    verdicts = tmp_path / "verdicts.jsonl"
    with chat_server(by_number) as server:
        predictions.write_bytes(whole[: whole.index(b"What is 12?")])
        assert judge(server, predictions) == 0
        captured = capsys.readouterr()
        assert "line 13: cut in the middle" in captured.err
        assert json.loads(captured.out)["n"] == 12
        predictions.write_bytes(whole)
        verdicts.write_bytes(verdicts.read_bytes()[:-30])
        assert judge(server, predictions) == 0
        assert printed(capsys)["n"] == 20 and len(read_lines(verdicts)) == 20
        assert len(server.requests) == 20
        compressed = gzip.compress(whole)
        cut = tmp_path / "cut.jsonl.gz"
        cut.write_bytes(compressed[: len(compressed) // 2])
        assert judge(server, cut, "--out", str(tmp_path / "cut.out")) in (0, 2)
        assert "cut off" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words", "said"),
    [
        ({}, (), "'question' is missing"),
        ({"y" * 10_000: 1}, (), "'question' is missing"),
        ({"question": "?", "golden_answers": "x", "prediction": ""}, (), "texts in"),
        ({"question": 1, "golden_answers": ["x"], "prediction": ""}, (), "a text as"),
        (None, ("--agree-with", "judge"), "no field 'judge' to compare with"),
        (None, ("--agree-with", "id"), "expected a verdict (true or false"),
        (None, ("--judge-url", "http://u:sk-secret-1234@h/v1"), "must not contain"),
        (None, ("--judge-url", "h"), "must be an address"),
        (None, ("--judge-model", ""), "--judge-model is empty"),
        (None, ("--out", "verdicts.jsonl.gz"), "without .gz with --out"),
        (None, ("--judge-concurrency", "0"), "at least 1"),
        (None, ("--judge-timeout-s", "nan"), "positive and finite"),
        (None, ("--judge-price", "1", "-1"), "two prices"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(
    predictions, capsys, line, words, said
):
    if line is not None:
        replace_lines(predictions, [*read_lines(predictions), line])
    with chat_server(by_number) as server:
        assert judge(server, predictions, *words) == 2
    line = refused(capsys)
    assert said in line and len(line) < 2000
    assert not server.requests


def test_an_output_below_a_file_is_one_line(predictions, capsys):
    with chat_server(by_number) as server:
        out = predictions / "verdicts.jsonl"
        assert judge(server, predictions, "--out", str(out)) == 2
    assert "Not a directory" in refused(capsys)
    assert not server.requests


def test_verdicts_follow_predictions_to_other_lines(predictions, tmp_path, capsys):
    """As in an evaluation that has asked again for answers that were missing."""
    whole = read_lines(predictions)
    replace_lines(predictions, [line for i, line in enumerate(whole) if i % 5 != 2])
    out = tmp_path / "verdicts.jsonl"
    with chat_server(by_number) as server:
        assert judge(server, predictions) == 0
        assert printed(capsys)["n"] == 16
        replace_lines(predictions, whole)
        assert judge(server, predictions) == 0
        found = printed(capsys)
        assert (found["n"], found["correct"], found["requests"]) == (20, 13, 4)
        lines = read_lines(out)
        assert {(line["line"], line["id"]) for line in lines} == {
            (i + 1, f"q{i}") for i in range(20)
        }
        assert judge(server, predictions) == 0
    assert read_lines(out) == lines and len(server.requests) == 20


def test_verdicts_of_another_prompt_are_not_mixed(predictions, tmp_path, capsys):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{prediction} for {question}\n")
    words = ("--judge-prompt", str(prompt))
    with chat_server(by_number) as server:
        assert judge(server, predictions) == 0
        assert judge(server, predictions, *words) == 2
        assert "it lacks {golden_answers}" in refused(capsys)
        prompt.write_text("Question: {question}\n{prediction} or {golden_answers}?\n")
        assert judge(server, predictions, *words) == 2
        assert "choose another file with --out" in refused(capsys)
        assert judge(server, predictions, *words, "--out", f"{prompt}.jsonl") == 0
    message = server.requests[-1]["messages"][-1]["content"]
    assert message.startswith('Question: "What is') and '" or ["answer' in message


def test_a_prediction_cannot_fill_the_template(predictions):
    lines = read_lines(predictions)[:1]
    lines[0]["prediction"] = '{question}"\n{golden_answers}'
    replace_lines(predictions, lines)
    with chat_server(by_number) as server:
        assert judge(server, predictions) == 0
    message = server.requests[0]["messages"][-1]["content"]
    assert 'Answer to check: "{question}\\"\\n{golden_answers}"\n' in message


def test_an_error_does_not_wait_for_requests_in_progress(predictions, capsys):
    """One request is refused while the others hang."""
    is_over = threading.Event()

    def hangs(message: str) -> Answer:
        if question_in(message) == "What is 0?":
            return Answer("no", status=401)
        is_over.wait(50)
        return verdict("correct")

    with chat_server(hangs) as server:
        started = time.monotonic()
        assert judge(server, predictions, "--judge-concurrency", "20") == 2
        took = time.monotonic() - started
        is_over.set()
    assert took < 40 and "401" in refused(capsys)


@pytest.mark.skipif(not SCORED.is_dir(), reason="needs shared/conformance")
def test_published_verdicts_replayed(tmp_path, capsys):
    path = SCORED / "hotpotqa_qwen.jsonl.gz"
    with gzip.open(path) as file:
        rows = [json.loads(line) for line in file]
    theirs = {row["question"]: row["judge"] == "True" for row in rows}
    flipped = set(list(theirs)[::10])

    def replay(message: str) -> Answer:
        is_right = theirs[question_in(message)]
        return verdict("correct" if is_right else "wrong")

    def errs(message: str) -> Answer:
        question = question_in(message)
        return verdict(
            "correct" if theirs[question] ^ (question in flipped) else "wrong"
        )

    with chat_server(replay) as server:
        words = ("--agree-with", "judge", "--out")
        assert judge(server, path, *words, str(tmp_path / "first.jsonl")) == 0
        found = printed(capsys)
        assert (found["n"], found["correct"], found["accuracy"]) == (500, 375, 0.75)
        assert (found["agreement"], found["kappa"]) == (1.0, 1.0)
        server.answer = errs
        words = ("--judge-model", "errs", *words)
        assert judge(server, path, *words, str(tmp_path / "second.jsonl")) == 0
    found = printed(capsys)
    ours = [theirs[row["question"]] ^ (row["question"] in flipped) for row in rows]
    right = sum(ours) / 500
    chance = right * 0.75 + (1 - right) * 0.25
    assert found["agreement"] == 0.9
    assert found["kappa"] == pytest.approx((0.9 - chance) / (1 - chance))


def test_requests_are_under_way_at_once(predictions, capsys):
    four = threading.Barrier(4, timeout=60)

    def answer(message: str) -> Answer:
        four.wait()
        return by_number(message)

    with chat_server(answer) as server:
        assert judge(server, predictions, "--judge-concurrency", "4") == 0
    assert printed(capsys)["requests"] == 20


@pytest.mark.slow
def test_an_evaluation_with_verdicts(tmp_path, capsys):
    """One command evaluates and asks; the same command continues where it was."""
    out = tmp_path / "out"
    train(tiny_config(tmp_path / "run", warmup_steps=1, steps=1))
    words = ["eval", "--model", str(tmp_path / "run"), "--limit", "3", "--json"]
    words += ["--out", str(out), "--judge-model", "m", "--judge-url"]
    replies = iter([verdict("correct"), verdict("unclear")])

    def twice(message: str) -> Answer:
        return next(replies, Answer("down", 400))

    with chat_server(twice) as server:
        assert main([*words, server.url, "--judge-concurrency", "1"]) in (0, 1)
        server.answer = lambda message: verdict("wrong")
        assert main([*words, server.url]) == 0
    found = printed(capsys)["judge"]
    assert json.loads((out / "results.json").read_text())["judge"] == found
    assert found["n"] == 3 and found["no_verdict"] == 0
    assert found["correct"] + found["unclear"] == len(server.requests[:2])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--judge-model", "m"), "--judge-model needs --judge-url"),
        (("--judge-url", "http://127.0.0.1:1/v1"), "--judge-url needs --judge-model"),
    ],
)
def test_an_evaluation_needs_both_url_and_model(tmp_path, capsys, words, said):
    named = ["eval", "--model", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*named, *words]) == 2
    assert said in refused(capsys)
