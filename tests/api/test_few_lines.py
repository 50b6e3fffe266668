"""How few lines a notebook needs, on the folder of a model in Hugging Face's format."""

import contextlib

import pytest

ROLLOUT = """\
import jaxsearch
policy = jaxsearch.load_policy("my_model")
passages = ["Vasdib is a city led by Parruk.", "Parruk was born in Zegbol."]
settings = {"retriever": passages, "task": "quickstart", "num_passages": 1}
asked = [("What is the birthplace of Parruk?", "Zegbol")]
trajectories = jaxsearch.rollout(policy, asked, **settings)
shown = trajectories[0]
"""
UPDATE = """\
asked += [("Who is the mayor of Vasdib?", "Parruk")]
asked += [("What is the birthplace of the mayor of Vasdib?", "Zegbol")]
trainer = jaxsearch.Trainer(policy, group_size=4, temperature=2.0, **settings)
metrics = trainer.step(asked)
"""


@pytest.mark.slow
def test_a_rollout_takes_8_lines_and_an_update_15(policy, tmp_path):
    assert ROLLOUT.count("\n") <= 8
    assert (ROLLOUT + UPDATE).count("\n") <= 15
    with contextlib.chdir(tmp_path):
        policy.save("my_model")
        names = {}
        exec(ROLLOUT + UPDATE, names)
    page = names["shown"]._repr_html_()
    assert 'class="policy"' in page and 'class="masked"' in page
    assert len(names["asked"]) == 3 and names["trainer"].num_steps == 1
    assert names["metrics"]["grad_norm"] > 0.0
