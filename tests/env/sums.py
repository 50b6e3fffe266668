"""A world of sums, for policies with a calculator."""

import dataclasses
import random

from jaxsearch.config import (
    DataConfig,
    EvalConfig,
    RetrievalConfig,
    SupervisedStage,
)
from jaxsearch.data.dataset import Dataset
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.data.question import Question
from jaxsearch.protocol import QUICKSTART
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.search.passages import Passage
from tests.env.calculator_tool import Calculator, alone, with_search
from tests.tiny import tiny_config

AGES = {"Anna": 3, "Bert": 4, "Cora": 5, "Dirk": 6}
PASSAGES = [
    Passage(id=name, contents=f"{name}\n{name} is {age}") for name, age in AGES.items()
]


def tokenizer():
    tags = (*QUICKSTART.control_tags, *Calculator.control_tags, *Calculator.stop_tags)
    words = ["so", "add", "is", "+", "error:", "\\boxed{", "}", *AGES]
    numbers = [str(number) for number in range(19)]
    return pieces_tokenizer([f"▁{piece}" for piece in (*tags, *words, *numbers)])


def question(first, second, answer):
    text = f" add {first} {second}"
    return Question(id=text.strip(), question=text, golden_answers=(str(answer),))


def sum_of_numbers(rng):
    """A demonstration that calculates: ` add 3 4`."""
    a, b = rng.randrange(10), rng.randrange(10)
    call = f" <think> so </think> <calc> {a} + {b} </calc>"
    end = f" <think> so </think> <answer> \\boxed{{ {a + b} }} </answer>"
    return Demonstration(
        question=question(a, b, a + b),
        turns=(call, end),
        observations=(None,),
    )


def sum_of_ages(rng):
    """A demonstration that searches and then calculates: ` add Anna Bert`."""
    names = rng.choices(list(AGES), k=2)
    a, b = (AGES[name] for name in names)
    one = sum_of_numbers(rng)
    searches = [f" <think> so </think> <search> {name} </search>" for name in names]
    found = [tuple(p for p in PASSAGES if p.id == name) for name in names]
    return dataclasses.replace(
        one,
        question=question(*names, a + b),
        turns=(
            *searches,
            f" <think> so </think> <calc> {a} + {b} </calc>",
            f" <think> so </think> <answer> \\boxed{{ {a + b} }} </answer>",
        ),
        observations=(*found, None),
    )


def number_demonstrations(seed):
    rng = random.Random(seed)
    return [sum_of_numbers(rng) for _ in range(40)]


def age_demonstrations(seed):
    rng = random.Random(seed)
    return [sum_of_ages(rng) for _ in range(40)]


def distinct(demonstrations):
    return list({one.question.id: one.question for one in demonstrations}.values())


def numbers_dataset(run_folder, seed):
    """Questions that need no search, and an empty corpus."""
    questions = distinct(number_demonstrations(seed + 1))
    return Dataset(
        questions=questions, passages=[], tokenizer=tokenizer(), heldout=questions[:4]
    )


def ages_dataset(run_folder, seed):
    questions = distinct(age_demonstrations(seed + 1))
    return Dataset(
        questions=questions,
        passages=PASSAGES,
        tokenizer=tokenizer(),
        heldout=questions[:4],
    )


def sums_config(out, *, has_search):
    """A config with a warm-up on tool calls and two RL steps."""
    config = tiny_config(out)
    _, rl = config.stages
    warm_up = SupervisedStage(
        name="calls",
        demonstrations=age_demonstrations if has_search else number_demonstrations,
        steps=80,
        batch_size=8,
        max_tokens=1024,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
    )
    return dataclasses.replace(
        config,
        environment=with_search if has_search else alone,
        data=DataConfig(source=ages_dataset if has_search else numbers_dataset),
        retrieval=RetrievalConfig(num_passages=1, dims=16),
        stages=(warm_up, dataclasses.replace(rl, steps=2, name="sums")),
        eval=EvalConfig(limit=4),
    )
