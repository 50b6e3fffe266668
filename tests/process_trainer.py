"""One step of `jaxsearch.Trainer` in the processes that the environment names.

Not a test: `test_several_processes.py` starts it. Arguments: the file that the first
process writes; and "alone" to load the policy on one device, as without processes.
"""

import sys

import jax
import numpy as np

import jaxsearch
from jaxsearch import processes
from tests.api.conftest import ONE_HOP, PASSAGES, TWO_HOPS


def main(path, *alone):
    processes.start()
    mesh = None if alone else jaxsearch.MeshShape()
    policy = jaxsearch.load_policy("jaxsearch:quickstart", mesh=mesh)
    settings = {"retriever": PASSAGES, "seed": 3}
    asked = [ONE_HOP, TWO_HOPS, ("Who is the mayor of Vasdib?", "Parruk")]
    trainer = jaxsearch.Trainer(policy, group_size=4, temperature=2.0, **settings)
    metrics = trainer.step(asked)
    found = jaxsearch.evaluate(trainer.policy, asked, **settings)
    [alone] = jaxsearch.rollout(trainer.policy, ONE_HOP, temperature=0.0, **settings)
    outcomes = jaxsearch.score([*trainer.trajectories, alone])
    summary = {
        "tokens": np.concatenate([t.tokens for t in trainer.trajectories]),
        "rewards": np.array([outcome.reward for outcome in outcomes]),
        "em": np.array(found.results["em"]),
        "logprobs": np.concatenate(
            jaxsearch.logprobs(trainer.policy, trainer.trajectories)
        ),
        "loss": np.array(metrics["loss"]),
        "grad_norm": np.array(metrics["grad_norm"]),
    }
    # Every process has the same results.
    for other in processes.all_gather_objects(summary):
        for name, value in summary.items():
            np.testing.assert_array_equal(value, other[name])
    if jax.process_index() == 0:
        np.savez(path, **summary)
    processes.end(0)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        processes.end(2)
