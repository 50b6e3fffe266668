"""Recipes are found by name, and only by a name that exists."""

import pytest

from jaxsearch.rewards.recipes import RECIPES, recipe_named


def test_every_recipe_is_found_under_its_own_name():
    assert list(RECIPES) == [
        *("research", "research_paper"),
        *("r1_searcher_stage1", "r1_searcher_stage2"),
        *("r1_searcher_qwen", "r1_searcher_llama_stage1", "r1_searcher_llama_stage2"),
        *("search_r1", "search_r1_format"),
        "quickstart",
    ]
    for name in RECIPES:
        assert recipe_named(name).name == name


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(ValueError, match="did you mean research_paper"):
        recipe_named("reserch_paper")
    with pytest.raises(ValueError, match="The recipes are research, "):
        recipe_named("zzz")


def test_no_prediction_scores_nothing_even_against_an_empty_golden_answer():
    recipe = recipe_named("research")
    assert recipe.metrics(None, ["the"]) == {"em": 0.0, "f1": 0.0, "cover_em": 0.0}
    assert recipe.metrics("the", ["the"])["em"] == 1.0
