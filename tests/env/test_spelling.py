"""Tags that a tokenizer cannot spell are refused before a run starts."""

import dataclasses
from pathlib import Path

import pytest

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.environment import Observation
from jaxsearch.env.search import SearchEnvironment
from jaxsearch.env.spelling import check_spelling
from jaxsearch.env.tools import Tools
from jaxsearch.protocol import QUICKSTART, ToolTags, xml_tags
from jaxsearch.rewards.tasks import QUICKSTART as TASK
from jaxsearch.rewards.tasks import TASKS
from jaxsearch.run.build import open_run
from jaxsearch.search.exact_index import EmptyIndex
from jaxsearch.trajectory import ToolCall
from tests.env.calculator_tool import Calculator
from tests.env.sums import tokenizer
from tests.tiny import tiny_config

QWEN = Path(__file__).resolve().parents[3] / "shared/data/tokenizers/qwen2.5"


def retagged(**tags):
    return dataclasses.replace(TASK, protocol=QUICKSTART.with_tags(**tags))


def search_of(protocol):
    return SearchEnvironment(
        retriever=EmptyIndex(),
        protocol=protocol,
        num_passages=1,
        on_search_failure="drop",
        has_reminder=bool(protocol.reminder),
    )


@pytest.mark.parametrize(
    ("task", "tag"),
    [
        (TASKS["quickstart_r1_searcher_stage1"], "'<|begin_of_query|>'"),
        (retagged(search=xml_tags("tool_call")), "'<tool_call>'"),
        (retagged(result=xml_tags("tool_response")), "'<tool_response>'"),
        (retagged(answer=xml_tags("final")), "'<final>'"),
    ],
    ids=["r1_searcher", "search", "result", "answer"],
)
def test_a_task_whose_tags_the_tokenizer_lacks_is_refused(task, tag, tmp_path):
    config = tiny_config(tmp_path / "run")
    *warm_up, rl = config.stages
    open_run(config)
    wrong = dataclasses.replace(
        config, stages=(*warm_up, dataclasses.replace(rl, task=task))
    )
    with pytest.raises(ValueError, match=r"cannot spell .*, a tag of protocol") as e:
        open_run(wrong)
    assert tag in str(e.value)
    assert not (tmp_path / "run").exists()


def test_the_stop_tags_of_a_tool_must_be_spelled_too():
    tool = Calculator()
    check_spelling(tokenizer(), QUICKSTART, Tools(search_of(QUICKSTART), tool))
    tool.stop_tags = ("</sum>",)
    with pytest.raises(ValueError, match="spell '</sum>', a tag of Calculator"):
        check_spelling(tokenizer(), QUICKSTART, tool)


class Framed(Calculator):
    """A calculator with an empty observation to check."""

    def shortest_observations(self):
        call = ToolCall(tool="framed", query="")
        return [Observation(call=call, parts=(), opening=" <sum>", closing=" </sum>")]


def test_the_frame_of_an_observation_must_be_spelled():
    with pytest.raises(ValueError, match="' <sum> </sum>', an empty obs.* 'framed'"):
        check_spelling(tokenizer(), QUICKSTART, Framed())


@pytest.mark.skipif(
    not QWEN.is_dir(), reason="needs shared/data/tokenizers/qwen2.5 beside the project"
)
@pytest.mark.parametrize("name", TASKS)
def test_a_tokenizer_of_bytes_spells_everything(name):
    protocol = dataclasses.replace(
        TASKS[name].protocol, calls=(ToolTags(call=xml_tags("calc")),)
    )
    environment = Tools(search_of(protocol), Framed())
    check_spelling(Tokenizer.load(str(QWEN)), protocol, environment)
