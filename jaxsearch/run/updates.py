"""The update of a stage, assembled from the parts of a run."""

import functools

from jaxsearch import processes
from jaxsearch.config import RLStage, SupervisedStage
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.env.environment import Done, RolloutId
from jaxsearch.env.prompts import prompt_ids
from jaxsearch.env.search import observation_of
from jaxsearch.env.token_environment import ObservedTokens
from jaxsearch.mesh import put_batch, row_multiple
from jaxsearch.rl.batching import Batching
from jaxsearch.rl.policy_update import AfterUpdate, PolicyUpdate, do_nothing
from jaxsearch.rl.rows import TrainRow, imitation_row
from jaxsearch.rl.shaping import TokenShaping
from jaxsearch.rl.update import Updater
from jaxsearch.run.build import Run
from jaxsearch.trajectory import Status
from jaxsearch.try_again import TryAgainError


def make_batching(run: Run, stage: SupervisedStage | RLStage) -> Batching:
    """The function that turns rows of a stage into microbatches on the run's mesh."""
    return Batching(
        row_lens=run.row_lens,
        max_tokens=max_batch_tokens(run, stage),
        row_multiple=row_multiple(run.mesh),
        is_packed=run.config.model.pack_sequences,
        put=functools.partial(put_batch, run.mesh),
    )


def max_batch_tokens(run: Run, stage: SupervisedStage | RLStage) -> int:
    """Padded tokens per microbatch of a stage."""
    if isinstance(stage, SupervisedStage):
        # An update has no more rows; a larger microbatch would only add padding.
        return min(stage.max_tokens, stage.batch_size * run.row_lens[-1])
    return stage.max_tokens


def make_policy_update(
    run: Run, stage: RLStage, updater: Updater, after_update: AfterUpdate = do_nothing
) -> PolicyUpdate:
    """The policy update of an RL step, with the settings of the stage.

    Args:
      after_update: called after each update.
    """
    uses_importance = stage.max_importance is not None
    return PolicyUpdate(
        updater=updater,
        batching=make_batching(run, stage),
        shaping=TokenShaping(
            # The sampler has no log-probs of retrieved tokens.
            recomputes_old_logprobs=uses_importance
            or not stage.has_masked_observations,
            reward_kl_weight=stage.reward_kl_weight,
            whiten_advantages=stage.whiten_advantages,
            max_importance=stage.max_importance,
        ),
        aggregation=stage.aggregation,
        max_len=run.config.rollout.max_len,
        minibatches_per_step=stage.minibatches_per_step,
        masks_observations=stage.has_masked_observations,
        skips_without_advantage=stage.skips_without_advantage,
        drops_zero_advantages=stage.drops_zero_advantages,
        after_update=after_update,
    )


def demonstration_row(run: Run, demonstration: Demonstration) -> TrainRow:
    """The row of a demonstration, with observations encoded as in a rollout.

    Raises:
      ValueError: if the row is longer than rollout.max_len, or the environment ends the
        rollout at a turn of the demonstration.
      TryAgainError: if a tool fails, in any process.
    """
    tokenizer, protocol = run.inputs.tokenizer, run.inputs.protocol
    question = demonstration.question.question
    row = imitation_row(
        prompt_ids(tokenizer, protocol, question),
        [tokenizer.encode(turn) for turn in protocol.continued(demonstration.turns)],
        _observed(run, demonstration),
        tokenizer.end_id,
    )
    if len(row.tokens) > run.config.rollout.max_len:
        raise ValueError(
            f"the demonstration of question {demonstration.question.id!r:.80} has "
            f"{len(row.tokens)} tokens, but rollout.max_len is only "
            f"{run.config.rollout.max_len}"
        )
    return row


def _observed(run: Run, demonstration: Demonstration) -> list[list[int]]:
    """Token ids of a demonstration's observations, encoded as in a rollout.

    All processes call this together.

    Raises:
      ValueError: if the environment ends the rollout at a turn of the demonstration.
      TryAgainError: if a tool fails, in any process.
    """
    environment, protocol = run.environments.training, run.inputs.protocol
    # An id that no rollout has.
    rollout_id = RolloutId(stage=-1, prompt_index=0, sample_index=0)
    environment.environment.start([(rollout_id, demonstration.question)])
    ids = []
    for turn, found in zip(
        demonstration.turns, demonstration.observations, strict=False
    ):
        if found is not None:
            answer = environment.encode(observation_of(protocol, "", found))
        else:
            [answer] = environment.step([(rollout_id, turn)])
            _check_answered(demonstration, answer)
        if isinstance(answer, Done):
            raise ValueError(
                f"the demonstration of question {demonstration.question.id!r:.80} "
                f"continues after {turn!r:.80}, where the environment ends the rollout"
            )
        ids.append(answer.ids)
    environment.environment.close([rollout_id])
    return ids


def _check_answered(
    demonstration: Demonstration, answer: ObservedTokens | Done
) -> None:
    """Checks that no process's tool failed, which is no fault of the demonstration.

    Raises:
      TryAgainError: on all processes, which then save together.
    """
    failure = None
    if isinstance(answer, Done) and answer.status is Status.TOOL_FAILED:
        failure = (answer.call.failure if answer.call else "") or "no reason is given"
    failures = [one for one in processes.all_gather_objects(failure) if one is not None]
    if failures:
        raise TryAgainError(
            "a tool of the demonstration of question "
            f"{demonstration.question.id!r:.80} failed: {failures[0]}; the same "
            "command continues when it succeeds again"
        )
