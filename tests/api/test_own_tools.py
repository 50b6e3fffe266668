"""A tool, a retriever and a reward of one's own in memory, and their warm start."""

import pytest

import jaxsearch
from jaxsearch import Demonstration, FunctionTool, ModelConfig, Question, RolloutConfig
from jaxsearch.api.session import open_session
from jaxsearch.api.tools import check_tools
from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.trajectory import Segment

QUESTION = Question(id="q", question="What do eggs cost ?", golden_answers=("7",))
TURNS = (
    " <think> eggs </think> <search> eggs </search>",
    " <think> add </think> <calc> 3 + 4 </calc>",
    " <think> 7 </think> <answer> \\boxed{ 7 } </answer>",
)


def calc(text):
    first, _, second = text.partition(" + ")
    return int(first) + int(second)


class Shelf:
    """Finds one passage, whatever the query."""

    queries = ()

    def search(self, queries, k):
        self.queries += tuple(queries)
        passage = jaxsearch.Passage(id="eggs", contents="eggs\neggs cost 3 + 4")
        return [[jaxsearch.Hit(passage=passage, score=1.0)] for _ in queries]


@pytest.fixture
def settings():
    return {
        "task": jaxsearch.load_task("quickstart"),
        "tools": [FunctionTool(calc)],
        "retriever": Shelf(),
        "num_passages": 1,
        "budgets": RolloutConfig(
            num_slots=4,
            max_len=80,
            max_prompt_len=8,
            max_turn_len=16,
            max_observation_len=10,
            max_searches=3,
            search_calls=1,
        ),
    }


@pytest.fixture(scope="module")
def untrained():
    tool, protocol = FunctionTool(calc), jaxsearch.load_task("quickstart").protocol
    tags = (*protocol.vocabulary, *tool.stop_tags, *tool.control_tags)
    words = ("do", "eggs", "cost", "?", "add", "+", *map(str, range(10)))
    pieces = ["What", *(f"▁{piece}" for piece in (*tags, *words))]
    sizes = ModelConfig(width=32, mlp_width=64, num_layers=1, rope_theta=100.0)
    return jaxsearch.load_policy(sizes, tokenizer=pieces_tokenizer(pieces))


def demonstration(observations=(None, None), question=QUESTION):
    return Demonstration(question=question, turns=TURNS, observations=observations)


def right(question, answer, *, searches, row):
    return {"right": float((answer or "").strip() == "7"), "n": float(len(searches))}


@pytest.mark.slow
def test_a_policy_learns_from_demonstrations_to_call_search_and_tool(
    untrained, settings
):
    losses = []
    policy = jaxsearch.imitate(
        untrained,
        [demonstration()],
        steps=30,
        batch_size=4,
        learning_rate=1e-2,
        on_step=lambda metrics: losses.append(metrics["loss"]),
        **settings,
    )
    assert len(losses) == 30 and losses[-1] < 0.2 * losses[0]
    # The shelf was asked once for each demonstration, not in each step.
    assert settings["retriever"].queries == ("eggs",)
    assert "trained" in repr(policy) and "trained" not in repr(untrained)
    trainer = jaxsearch.Trainer(
        policy, reward=right, group_size=2, temperature=0.2, **settings
    )
    metrics = trainer.step(QUESTION)
    assert metrics["calls/calc/mean"] == metrics["reward/right"] == metrics["em"] == 1.0
    trajectory, _ = trainer.trajectories
    assert [call.tool for call in trajectory.tool_calls] == ["search", "calc"]
    # The tool's result is shown, and is not trained on.
    assert 'class="masked"' in trajectory._repr_html_().rpartition("calc_result")[0]
    masked = [one.text for one in trajectory.segments if not one.is_policy]
    assert "<calc_result> 7 </calc_result>" in masked[1]


def test_the_task_knows_results_of_a_tool_that_the_policy_wrote_itself(
    untrained, settings
):
    forged = TURNS[1] + " <calc_result> 7 </calc_result>" + TURNS[2]
    segments = [Segment(text=forged, is_policy=True)]

    def is_forged(**options):
        found = {**settings, "environment": None, "seed": 0, **options}
        return open_session(untrained, **found).task.protocol.is_forged(segments)

    assert is_forged()
    assert not is_forged(tools=())


def test_a_tool_alone_needs_nothing_to_search(untrained, settings):
    options = {**settings, "retriever": None, "environment": None, "seed": 0}
    run = open_session(untrained, **options)
    assert not run.environments.has_search


def test_tools_and_an_environment_exclude_each_other(untrained, settings):
    settings["environment"] = lambda inputs: inputs.search()
    with pytest.raises(ValueError, match="tools and environment exclude each other"):
        jaxsearch.rollout(untrained, QUESTION, **settings)


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        (FunctionTool(calc), r"must be a list; write tools=\[FunctionTool"),
        ([calc], "must be a list of FunctionTool .*got <function calc"),
        ("calc", "must be a list of FunctionTool .*got 'calc'"),
    ],
    ids=["one", "function", "text"],
)
def test_tools_that_are_refused(tools, message):
    with pytest.raises(ValueError, match=message):
        check_tools(tools)


@pytest.mark.parametrize(
    ("demonstrations", "error", "message"),
    [
        ([], ValueError, "at least one demonstration, got none"),
        ([demonstration()], ValueError, "searches for 'eggs', but has no passages"),
        (
            [
                demonstration(
                    question=Question(**{**vars(QUESTION), "question": "? " * 90})
                )
            ],
            ValueError,
            "rollout.max_len is only 80",
        ),
    ],
    ids=["none", "passages", "long"],
)
def test_demonstrations_that_are_refused(
    untrained, settings, demonstrations, error, message
):
    settings["retriever"] = Shelf() if "max_len" in message else None
    with pytest.raises(error, match=message):
        jaxsearch.imitate(untrained, demonstrations, steps=1, **settings)
