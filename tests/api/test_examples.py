"""The examples in the docstrings of the public API run, and each function has one."""

import contextlib
import doctest
import inspect
from pathlib import Path

import pytest

import jaxsearch
from jaxsearch.train import train
from tests.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def example(name):
    """The docstring of a public name as a test; None without an example."""
    value = getattr(jaxsearch, name)
    text = inspect.getdoc(value) or ""
    found = doctest.DocTestParser().get_doctest(
        text, {"jaxsearch": jaxsearch}, name, None, None
    )
    return found if found.examples else None


EXAMPLES = {name: example(name) for name in jaxsearch.__all__}
OF_A_RUN = [name for name, one in EXAMPLES.items() if one and '"runs/' in one.docstring]
IN_MEMORY = [name for name, one in EXAMPLES.items() if one and name not in OF_A_RUN]


def run_example(name):
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    printed = []
    runner.run(EXAMPLES[name], out=printed.append)
    assert runner.failures == 0, "".join(printed)
    assert runner.tries > 0


def test_every_public_function_has_an_example():
    functions = [n for n in jaxsearch.__all__ if inspect.isfunction(vars(jaxsearch)[n])]
    assert len(functions) >= 13
    assert not {*functions, "Policy", "Trainer"} - {*IN_MEMORY, *OF_A_RUN}


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_MEMORY)
def test_examples_run(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    run_example(name)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a trained run, as in the README."""
    home = tmp_path_factory.mktemp("examples")
    with contextlib.chdir(home):
        train(tiny_config(Path("runs/quickstart"), warmup_steps=1, steps=1))
        yield home


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_A_RUN)
def test_examples_on_a_run_run(home, name):
    run_example(name)


@pytest.mark.slow
def test_a_policy_of_a_run_has_its_settings(home):
    run, params = jaxsearch.load_run("runs/quickstart")
    policy = jaxsearch.load_policy("runs/quickstart")
    assert policy.config.task.name == "quickstart"
    assert policy.config.rollout.max_len == run.config.rollout.max_len
    question = run.inputs.heldout[0]
    passages = run.inputs.heldout_passages
    asked, _ = jaxsearch.ask(run, params, question.question)
    [rolled_out] = jaxsearch.rollout(
        policy, question, retriever=passages, temperature=0.0
    )
    assert rolled_out.tokens.tolist() == asked.tokens.tolist()
    with pytest.raises(ValueError, match="give one of its indexes: .*heldout"):
        jaxsearch.load_retriever("runs/quickstart")
