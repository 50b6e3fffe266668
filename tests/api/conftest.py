"""The packaged policy, and what it searches in the tests of the API."""

import pytest

import jaxsearch

PASSAGES = (
    "Parruk\nParruk was born in Zegbol and married Sevviz.",
    "Vasdib\nVasdib is a city in Vaznuk led by Parruk.",
)
ONE_HOP = ("What is the birthplace of Parruk?", "Zegbol")
TWO_HOPS = ("What is the birthplace of the mayor of Vasdib?", ("Zegbol",))


@pytest.fixture(scope="session")
def policy():
    return jaxsearch.load_policy("jaxsearch:quickstart")


@pytest.fixture(scope="session")
def retriever():
    return jaxsearch.load_retriever(PASSAGES)
