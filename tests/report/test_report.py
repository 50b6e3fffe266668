import dataclasses
import html
import html.parser
import json
import math
import re

import numpy as np
import pytest

from jaxsearch import json_lines
from jaxsearch.monitor.rollout_log import (
    LoggedRollout,
    heldout_rollouts_path,
    rollout_path,
    write_rollouts,
)
from jaxsearch.protocol import RESEARCH
from jaxsearch.report import series, trajectories
from jaxsearch.report import write_report as report
from jaxsearch.rewards import tasks
from jaxsearch.run.config_values import recorded
from jaxsearch.trajectory import Segment, Status, ToolCall, Trajectory

HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Outcome:
    def __init__(self, reward, text="Tolrus"):
        self.reward = reward
        self.terms = {"answer": reward}
        self.reason = text
        self.prediction = text


class Parsed(html.parser.HTMLParser):
    """Collects the elements of a page, with their text and depth."""

    def __init__(self, text):
        super().__init__()
        self.tags = []  # (name, attributes)
        self.texts = []  # (classes of all open spans and the like, text)
        self._open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "input", "path", "circle"):
            self._open.append((tag, dict(attrs).get("class", "")))

    def handle_endtag(self, tag):
        if tag not in ("path", "circle"):
            assert self._open.pop()[0] == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(([name for _, name in self._open], data))

    def classed(self, tag, name):
        return [
            attrs
            for found, attrs in self.tags
            if found == tag and name in attrs.get("class", "").split()
        ]


def make_trajectory(
    *, prompt_index=0, sample_index=0, text="Bakfel", passage="Bakfel is old ."
):
    return Trajectory(
        question_id=f"q{prompt_index}",
        question=f"Where was the director of {text} born ?",
        golden_answers=("Tolrus", text),
        prompt_index=prompt_index,
        sample_index=sample_index,
        tokens=np.arange(8, dtype=np.int32),
        is_policy=np.array([0, 0, 1, 1, 0, 0, 1, 1], bool),
        logprobs=np.zeros(8, np.float32),
        sampling_logprobs=np.zeros(8, np.float32),
        prompt_len=2,
        segments=(
            Segment(
                text=f" <think> who </think> <search> {text} </search>", is_policy=True
            ),
            Segment(text=f" <result> {passage} </result>", is_policy=False),
            Segment(text=" <answer> \\boxed{ Tolrus } </answer>", is_policy=True),
        ),
        tool_calls=(ToolCall(query=text, passage_ids=("p1", text)),),
        status=Status.ANSWERED,
    )


@pytest.fixture
def run_folder(tmp_path):
    """30 supervised steps, 20 of RL, evaluations, rollouts of two steps."""
    folder = tmp_path / "quickstart"
    folder.mkdir()
    stage = {"kind": "RLStage", "name": "rl", "task": "research"}
    config = {"seed": 1, "stages": [stage]}
    (folder / "config.json").write_text(json.dumps(config))
    for step in range(1, 51):
        values = {"loss": 1.0 / step, "grad_norm": 1.0, "time/update": 0.5}
        if step > 30:
            values |= {"reward/mean": step / 50, "em": step / 60, "kl": 0.01}
            values |= {"status/answered": 0.75, "status/ended": 0.25}
        stage = "supervised" if step <= 30 else "rl"
        line = {"step": step, "stage": stage, **values}
        json_lines.append_line(folder / "metrics.jsonl", line)
    scores = {"before_rl": 0.124, "after_rl": 0.694, "empty_index": 0.028}
    for name, em in scores.items():
        line = {
            "step": 30 if name == "before_rl" else 50,
            "stage": "rl",
            "name": name,
            "n": 500,
            "em": em,
            "by_hops": {"1": {"n": 200, "em": em}, "2": {"n": 300, "em": em}},
        }
        json_lines.append_line(folder / "eval.jsonl", line)
    for step in (31, 50):
        rollouts = [
            make_trajectory(sample_index=sample_index) for sample_index in range(3)
        ]
        outcomes = [Outcome(reward) for reward in (0.0, 0.5, 1.0)]
        write_rollouts(rollout_path(folder, step), rollouts, outcomes)
    return folder


def read_page(folder):
    path = report.write_report(folder)
    assert path == folder / "report.html"
    return path.read_text()


def test_the_page_needs_nothing_from_anywhere(run_folder):
    parsed = Parsed(read_page(run_folder))
    links = [
        attrs[name]
        for _, attrs in parsed.tags
        for name in ("src", "href", "srcset", "action", "data")
        if name in attrs
    ]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    text = (run_folder / "report.html").read_text()
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_hostile_text_stays_text(run_folder):
    plain = Parsed(read_page(run_folder))
    name = f"eval {HOSTILE}"
    json_lines.append_line(
        run_folder / "eval.jsonl",
        {"step": 50, "stage": "rl", "name": name, "n": 5, "em": 0.5, "f1": 0.5},
    )
    json_lines.append_line(
        run_folder / "metrics.jsonl",
        {"step": 51, "stage": HOSTILE, f"new/{HOSTILE}": 1.0},
    )
    for step in range(52, 102):  # long enough for the stage's name to be drawn
        line = {"step": step, "stage": "<img>", "loss": 1.0}
        json_lines.append_line(run_folder / "metrics.jsonl", line)
    (run_folder / "config.json").write_text(json_lines.encode({"x": HOSTILE}))
    write_rollouts(
        rollout_path(run_folder, 50),
        [make_trajectory(text=HOSTILE, passage=HOSTILE)],
        [Outcome(1.0, HOSTILE)],
    )
    hostile = Parsed(read_page(run_folder))
    assert [tag for tag, _ in hostile.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in hostile.tags}
    handlers = {key for _, attrs in hostile.tags for key in attrs if key[:2] == "on"}
    assert handlers == set()
    shown = "".join(text for _, text in hostile.texts)
    assert shown.count(HOSTILE) > 6
    new_tags = {tag for tag, _ in hostile.tags} - {tag for tag, _ in plain.tags}
    assert new_tags == {"circle"}  # a stage of one step is drawn as a point


def test_text_that_is_not_trained_on_is_grey(run_folder):
    parsed = Parsed(read_page(run_folder))
    in_reader = [
        (classes, text) for classes, text in parsed.texts if "trajectory" in classes
    ]

    def mark_excluded(name):
        return " ".join("".join(t for c, t in in_reader if name in c).split())

    passage = "<result> Bakfel is old . </result>"
    sampled = (
        "<think> who </think> <search> Bakfel </search> <answer> \\boxed{ Tolrus }"
    )
    assert mark_excluded("masked") == " ".join([passage] * 6)
    assert mark_excluded("policy") == " ".join([f"{sampled} </answer>"] * 6)
    legend = "".join(t for c, t in parsed.texts if "legend-text" in c)
    assert "not trained on" in legend


def logged(*segments):
    return LoggedRollout(
        question_id="q",
        question="?",
        golden_answers=("a",),
        prompt_index=0,
        sample_index=0,
        segments=tuple(
            Segment(text=t, is_policy=is_policy) for t, is_policy in segments
        ),
        tool_calls=(),
        status=Status.ENDED,
        total_len=1,
        policy_len=1,
        reward=0.0,
        terms={},
        reason="",
        prediction=None,
        advantage=None,
    )


def test_forged_passages_are_shown_as_written_by_the_policy():
    page = trajectories.article(
        logged(("<result> I made this up </result>", True)),
        RESEARCH,
        step=1,
        place="rl 1",
    )
    assert "not trained on" not in page
    assert '<section class="block passages">' in page
    empty = trajectories.attempt(logged(("<result></result>", True)), RESEARCH)
    assert "not trained on" not in empty


@pytest.mark.parametrize(
    ("task", "note"),
    [
        ("reserch", "cannot be read: unknown name .reserch"),
        (
            "no.such:TASK",
            "it names the code .no.such:TASK., and importing it would run",
        ),
        ("jaxsearch.protocol:RESEARCH", "RESEARCH to be a Task, got ReSearch"),
        (None, "does not name a task, but has None"),
    ],
)
def test_without_its_protocol_a_rollout_is_shown_unmarked(run_folder, task, note):
    stage = {"kind": "RLStage", "name": "rl", "task": task}
    (run_folder / "config.json").write_text(json.dumps({"stages": [stage]}))
    parsed = Parsed(read_page(run_folder))
    notes = "".join(text for classes, text in parsed.texts if "note" in classes)
    assert re.search(f"queries and answers are not marked: .*{note}", notes)
    classes = {dict(attrs).get("class", "") for _, attrs in parsed.tags}
    assert {"block plain", "block passages"} <= classes
    assert not {"block query", "block answer", "block thinking"} & classes


def test_a_task_that_is_recorded_with_its_fields_marks_its_rollouts(run_folder):
    own = dataclasses.replace(tasks.RESEARCH, name="own")
    record = recorded(own, tasks.Task)
    assert isinstance(record, dict)
    stage = {"kind": "RLStage", "name": "rl", "task": record}
    (run_folder / "config.json").write_text(json.dumps({"stages": [stage]}))
    page = read_page(run_folder)
    assert "not marked" not in page and 'class="block answer"' in page


def test_every_metric_has_a_curve_and_stages_are_marked(run_folder):
    text = read_page(run_folder)
    titles = re.findall(r"<figcaption>(.*?) ?<small>", text)
    assert titles[:2] == ["Reward", "Exact match"]
    expected = {"Loss, supervised", "Loss, rl", "KL from the reference"}
    expected |= {"How trajectories ended", "Time of a step, rl"}
    assert expected <= set(titles)
    assert text.count('class="chart"') == len(titles)
    parsed = Parsed(text)
    assert len(parsed.classed("g", "line")) >= 6
    assert len(parsed.classed("g", "dot")) == 6  # three evaluations, and their legend
    stages = {text for classes, text in parsed.texts if "stage" in classes}
    assert stages == {"supervised", "rl"}


def test_headline_and_hops(run_folder):
    text = read_page(run_folder)
    figures = re.findall(r'<h3>([^<]*)</h3><p class="figure">([^<]*)<', text)
    assert figures == [
        ("Before RL", "0.124"),
        ("After RL", "0.694"),
        ("After RL, empty index", "0.028"),
    ]
    # Wilson: (0.694 + 1.9208/500) / 1.00768 = 0.6925, half width 0.0403
    assert "95 % interval 0.652 – 0.733" in text
    assert "<small>n 300</small>" in text


def test_interval_of_few_questions_is_wilsons(run_folder):
    line = {"step": 50, "stage": "rl", "name": "after_rl_sampled", "n": 5, "em": 0.5}
    json_lines.append_line(run_folder / "eval.jsonl", line)
    # z = 1.96: half = 1.96 sqrt(0.25/5 + 3.8416/100) / (1 + 3.8416/5) = 0.3296
    assert "95 % interval 0.170 – 0.830" in read_page(run_folder)


def test_a_loss_that_is_not_finite_is_reported(run_folder):
    assert 'class="alarm"' not in read_page(run_folder)
    json_lines.append_line(
        run_folder / "metrics.jsonl", {"step": 51, "stage": "rl", "loss": math.nan}
    )
    assert "not finite at 1 of 51 steps: 51." in read_page(run_folder)


@pytest.mark.slow
def test_a_large_run_stays_a_small_page(run_folder):
    (run_folder / "metrics.jsonl").write_text(
        "".join(
            json_lines.encode(
                {"step": step, "stage": "rl", **{f"m/{n}": step / 7 for n in range(20)}}
            )
            + "\n"
            for step in range(1, 3001)
        )
    )
    passage = "a long passage " * 1000  # 15 kB
    for step in range(100, 1300, 100):
        rollouts = [
            make_trajectory(prompt_index=n, passage=passage) for n in range(100)
        ]
        outcomes = [Outcome(n / 100) for n in range(100)]
        write_rollouts(rollout_path(run_folder, step), rollouts, outcomes)
    text = read_page(run_folder)
    assert len(text.encode()) < 5_000_000
    assert "9 of 14 step files" in text
    assert "trajectories of these files are left out" in text
    assert "a mean over up to 5 steps" in text
    rewards = {
        attrs["data-reward"]
        for attrs in Parsed(text).classed("article", "trajectory")
        if attrs["data-step"] == "1200"
    }
    assert {"0.0", "0.99"} <= rewards  # the worst and the best


def test_a_run_that_has_nothing_yet_still_has_a_page(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    text = read_page(tmp_path)
    for sentence in (
        "No evaluation yet",
        "No step measured yet",
        "no RL step yet",
        "No trajectories: ",
    ):
        assert sentence in text
    json_lines.append_line(
        tmp_path / "metrics.jsonl", {"step": 1, "stage": "supervised", "loss": 2.0}
    )
    text = read_page(tmp_path)
    assert "This run has no RL step" in text
    assert text.count('class="chart"') == 1


def guarded_lines(folder, **alarms):
    """Appends RL steps from 51 on with guards, one per alarm value."""
    for number in range(len(next(iter(alarms.values())))):
        line = {"step": 51 + number, "stage": "rl", "reward/mean": 0.5}
        line |= {"searches/mean": 2.0 - 0.25 * number, "len/think": 90.0}
        line |= {"groups_non_finite": float(number == 1), "rollouts_dropped": 4.0}
        line |= {f"alarm/{name}": values[number] for name, values in alarms.items()}
        json_lines.append_line(folder / "metrics.jsonl", line)


def guards_of(page):
    return page.partition('<section id="guards">')[2].partition("</section>")[0]


def test_alarms_and_exclusions_are_listed(run_folder):
    drift, searches = [0.0] * 6, [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    guarded_lines(run_folder, searches=searches, drift=drift)
    page = read_page(run_folder)
    section = guards_of(page)
    assert (
        "<b>1</b>, in 1 of 6 steps: groups with log-probs that are not fin" in section
    )
    assert "<b>24</b>, in 6 of 6 steps: rollouts in all" in section
    assert "rollouts out of length" not in section  # that guard was off
    assert "Alarms that were on: drift, searches." in section
    rows = re.findall(r'<th scope="row">(.*?)</tr>', section)
    cells = [re.sub("<[^>]*>", "|", row).replace("||", "|").split("|") for row in rows]
    seen = "searches per question: 1.5 (highest in earlier steps: 2); reward 0.5"
    assert cells[0][:5] == ["searches", "rl", "53", "2", seen]
    assert [cell[2:4] for cell in cells] == [["53", "2"], ["56", "1"]]
    titles = re.findall(r"<figcaption>(.*?) ?<small>", page)
    assert {"Thought", "Excluded from updates"} <= set(titles)
    assert not any("alarm" in title for title in titles)


def test_guards_without_an_alarm_say_so(run_folder):
    assert "No guard was on" in guards_of(read_page(run_folder))
    guarded_lines(run_folder, drift=[0.0, 0.0])
    assert "No alarm was raised." in guards_of(read_page(run_folder))


def test_what_is_not_a_run_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such run folder"):
        report.write_report(tmp_path / "none")
    with pytest.raises(ValueError, match="it has no config.json"):
        report.write_report(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        report.write_report(tmp_path)


def test_ticks_are_round_and_inside():
    assert series.ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert series.ticks(-0.03, 0.041) == [-0.02, 0.0, 0.02, 0.04]
    assert series.ticks(401.0, 550.0, num=6) == [450.0, 500.0, 550.0]


def test_smoothing_keeps_a_constant_and_gaps():
    values = np.full(90, 3.0)
    values[40] = math.nan
    means, window = series.smoothed(values)
    assert window == 7
    np.testing.assert_array_equal(means, values)


def test_close_ticks_have_different_labels_and_zero_has_no_sign():
    assert series.tick_texts([7.3091, 7.3092, 7.3093]) == ["7.3091", "7.3092", "7.3093"]
    assert series.tick_texts([0.0, 0.5, 1.0]) == ["0", "0.5", "1"]
    assert series.tick_texts([12345.0, 12345.5]) == ["12,345.0", "12,345.5"]
    assert series.number_text(-0.0) == "0"


def test_a_nearly_constant_curve_has_readable_ticks(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for step in range(1, 4):
        line = {"step": step, "stage": "rl", "loss": 7.309 + 1e-9 * step}
        json_lines.append_line(tmp_path / "metrics.jsonl", line)
    labels = re.findall(r'text-anchor="end">([^<]*)<', read_page(tmp_path))
    assert labels == ["7", "7.5", "8", "step"]


def test_what_is_always_zero_is_named_and_not_drawn(run_folder):
    lines = [
        json.loads(line) | {"searches/failed": 0.0, "status/ended": 0.0}
        for line in (run_folder / "metrics.jsonl").read_text().splitlines()
    ]
    json_lines.replace_lines(run_folder / "metrics.jsonl", lines)
    text = read_page(run_folder)
    assert "Searches with problems" not in re.findall(r"<figcaption>(.*?) ?<", text)
    assert "Always 0, and not drawn: Searches with problems." in text
    assert "<li>always 0: ended</li>" in text


def test_the_axis_of_rl_counts_from_its_first_step(run_folder):
    text = read_page(run_folder)
    reward = text.partition("<figcaption>Reward ")[2].partition("</figure>")[0]
    labels = re.findall(r'text-anchor="middle">([^<]*)<', reward)
    assert labels == ["5", "10", "15", "20"]  # steps 31 to 50 of the run
    points = json.loads(html.unescape(re.search('data-points="(.*?)"', reward)[1]))
    assert (points["steps"][0], points["origin"]) == (1, 30)
    places = re.findall('data-step="50" data-place="(.*?)"', text)
    assert set(places) == {"rl 20"}


def test_no_prediction_is_not_a_prediction(run_folder):
    page = trajectories.attempt(logged(("no answer", True)), RESEARCH)
    assert "<dd><i>no prediction</i></dd>" in page and "<q>" not in page
    named = dataclasses.replace(logged(("", True)), prediction=" none ")
    assert "<dd><q>none</q></dd>" in trajectories.attempt(named, RESEARCH)


@pytest.mark.parametrize("protocol", [RESEARCH, None])
def test_the_end_token_ends_the_block_before_it(protocol):
    whole = logged(("<answer> \\boxed{ a } </answer><|im_end|>\n", True))
    page = trajectories.attempt(whole, protocol)
    assert page.count('<section class="block') == 1
    assert '<code class="tag">&lt;|im_end|&gt;' in page
    more = trajectories.attempt(
        logged(("<answer> a </answer> so </s>", True)), protocol
    )
    assert more.count('<section class="block') == (2 if protocol else 1)


def heldout_part(page):
    section = page.partition('<section id="held-out">')[2]
    return section.partition('<section id="trajectories">')[0]


def test_long_held_out_rollouts_are_left_out_by_group(run_folder):
    passage = "a long passage " * 4000  # 60 kB, twice in a pair
    questions = [
        make_trajectory(prompt_index=n, passage=passage if n < 9 else "Short .")
        for n in range(12)
    ]
    rewards = {"before_rl": [0.0] * 12, "after_rl": [1.0] * 9 + [-1.0] * 3}
    for name, values in rewards.items():
        path = heldout_rollouts_path(run_folder, name)
        write_rollouts(path, questions, [Outcome(v, name) for v in values])
        page = read_page(run_folder)
        if name == "before_rl":
            assert "none after RL. The page shows 8 of 12.</p>" in page
    section = heldout_part(page)
    assert re.findall("<h3>(.*?)</h3>", section) == [
        "Higher reward after RL: 9 of 12, 2 of them shown",
        "Lower reward after RL: 3 of 12",
        "Same reward: 0 of 12",
    ]
    assert section.count("<h4>Before RL</h4>") == 5
    Parsed(page)


def test_the_prompt_and_what_rl_changed_are_shown(run_folder):
    page = read_page(run_folder)
    assert "No prompt: " in page and "No held-out trajectories: " in page
    prompt = {"form": "chat", "num_tokens": 7, "prompt": "⟦<|im_start|>⟧ Answer!"}
    (run_folder / "prompt.json").write_text(json.dumps(prompt))
    questions = [make_trajectory(prompt_index=n, text=f"film {n}") for n in range(30)]
    rewards = {"before_rl": [0.0] * 30, "after_rl": [1.0] * 20 + [0.0] * 9 + [-1.0]}
    for name, values in rewards.items():
        path = heldout_rollouts_path(run_folder, name)
        write_rollouts(path, questions, [Outcome(v, name) for v in values])
        page = read_page(run_folder)
        if name == "before_rl":
            assert "Greedy rollouts before RL; there are none after RL." in page
    assert '<pre class="prompt">⟦&lt;|im_start|&gt;⟧ Answer!</pre>' in page
    section = heldout_part(page)
    titles = re.findall("<h3>(.*?)</h3>", section)
    assert titles == [
        "Higher reward after RL: 20 of 30, 8 of them shown",
        "Lower reward after RL: 1 of 30",
        "Same reward: 9 of 30, 8 of them shown",
    ]
    assert section.count("<q>before_rl</q> → <q>after_rl</q>") == 17
    assert section.count("<h4>Before RL</h4>") == 17
    Parsed(page)  # every element is closed
