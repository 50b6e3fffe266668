"""A run that searches the web: its record, its budget, its metrics."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.config import RetrievalConfig
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.run import trust
from jaxsearch.run.config_record import identity, resolved, restored
from jaxsearch.run.options import with_index
from jaxsearch.run.overrides import overridden
from jaxsearch.run.trust import UntrustedError
from jaxsearch.train import train
from jaxsearch.web.config import WebConfig
from jaxsearch.web.searxng import Searxng
from jaxsearch.web.serper import SERPER, Serper
from jaxsearch.web.service import SearchService
from jaxsearch.web.spending import Spending
from tests.tiny import tiny_config
from tests.web.stub_providers import one_page


def config_with(out, provider, web, **changes):
    config = tiny_config(out, web=web, **changes)
    retrieval = dataclasses.replace(config.retrieval, web=provider)
    return dataclasses.replace(config, retrieval=retrieval)


def test_names_on_the_command_line():
    config = tiny_config(Path("run"))

    def chosen(name, *words):
        return overridden(config, ["--retrieval.web", name, *words], "run.py")

    found = chosen("serper", "--web.snippets", "--web.max-queries", "7")
    assert found.retrieval.web is SERPER
    assert found.web == WebConfig(snippets=True, max_queries=7)
    assert chosen("none").retrieval.web is None
    named = chosen("tests.web.stub_providers:one_page").retrieval.web
    assert named.__qualname__ == "one_page"
    with pytest.raises(SystemExit):
        chosen("bing")


@pytest.mark.parametrize("provider", [SERPER, one_page, Searxng(url="http://a/"), None])
def test_the_record_restores_the_provider(provider, monkeypatch):
    monkeypatch.setenv("SERPER_API_KEY", "secret")
    config = config_with(Path("run"), provider, WebConfig(site="a.org"))
    text = json.dumps(resolved(config))
    assert "secret" not in text
    # Its address gets the key, so a folder of somebody else's must not choose it.
    if isinstance(provider, SearchService):
        with pytest.raises(UntrustedError, match="--trust jaxsearch.web.se"):
            restored(json.loads(text))
    modules = {"tests", "jaxsearch.web.searxng", "jaxsearch.web.serper"}
    monkeypatch.setattr(trust, "_trusted", modules)
    again = restored(json.loads(text))
    assert (again.retrieval.web, again.web) == (provider, config.web)
    # A record of before this field.
    record = json.loads(text)
    del record["web"], record["retrieval"]["web"]
    assert restored(record).retrieval.web is None


def test_what_is_part_of_a_run_s_identity():
    web = WebConfig(max_queries=1)

    def of(provider=SERPER, **fields):
        config = config_with(Path("run"), provider, dataclasses.replace(web, **fields))
        return identity(config)

    assert of() == of(max_queries=5, timeout_s=3.0, cache="a", offline=True)
    assert of() == of(Serper(url="http://127.0.0.1/", usd_per_query=0.2))
    assert of() != of(one_page) and of() != of(site="a.org")
    assert of(None) == of(None, site="a.org")


def test_the_web_excludes_other_searches():
    for name in ("corpus", "index", "retriever"):
        with pytest.raises(ValueError, match=f"web and retrieval.{name} exclude"):
            RetrievalConfig(web=SERPER, **{name: "a" if name != "retriever" else print})
    for index in ("a", "http://host"):
        assert with_index(RetrievalConfig(web=SERPER), index).web is None


def test_a_missing_key_stops_a_run_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    config = config_with(tmp_path / "run", SERPER, WebConfig(snippets=True))
    with pytest.raises(ValueError, match="SERPER_API_KEY: set it"):
        train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_ends_at_its_budget_and_goes_on_with_a_larger_one(tmp_path, capfd):
    """With real queries: those of the quickstart's policy, which has imitated some."""
    out = tmp_path / "run"

    def train_to(step, *words):
        return main(
            [
                *("train", "quickstart", "--out", str(out), "--steps", str(step)),
                *("--retrieval.web", "tests.web.stub_providers:one_page"),
                *("--web.snippets", "--eval.every", "0", "--eval.limit", "1"),
                *("--stages.0.questions-per-step", "4", "--stages.0.group-size", "4"),
                *("--rollout.num-slots", "16", "--logging.wandb", "disabled", *words),
            ]
        )

    assert train_to(1) == 0
    [first] = read_metrics(out / "metrics.jsonl")
    spending = Spending(path=out / "web" / "spent.sqlite", usd_per_query=0.0)
    # One query of the next step's four questions.
    budget = spending.spent()[0] + 1
    assert first["web/queries"] > 0
    assert train_to(2, "--web.max-queries", str(budget)) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"jaxsearch train: the budget of web searches is used up: {budget} queries "
        "(web.max_queries); the same command with a larger --web.max-queries continues"
    )
    assert spending.spent()[0] == budget
    assert read_metrics(out / "metrics.jsonl") == [first]
    assert train_to(2, "--web.max-queries", "4000") == 0
    done, second = read_metrics(out / "metrics.jsonl")
    assert done == first
    assert second["searches/failed"] == 0 < second["web/queries"]
    # What had been paid for was not asked again.
    assert second["web/queries_cached"] > 0
