"""Notes about the data of a run, shown before it starts."""

from jaxsearch.config import RLStage, RunConfig
from jaxsearch.run.heldout_split import (
    MIN_HELDOUT,
    has_started,
    heldout_path,
    is_enough,
    own_file,
    question_files,
)
from jaxsearch.run.inputs import Inputs


def data_notes(config: RunConfig, inputs: Inputs, *, has_search: bool) -> list[str]:
    """Lines for the user: which questions are held out of a file, or why none are.

    Also those about questions that are searched in passages of another origin, and
    about stages with fewer questions than a step takes.

    Args:
      config: the run's config.
      inputs: its inputs.
      has_search: whether its environment uses search.
    """
    notes = _repeats(config, inputs)
    if question_files(config):
        notes.append(_evaluation(config, inputs))
        if has_search:
            notes += _mixed(config, inputs)
    return [note for note in notes if note]


def _repeats(config: RunConfig, inputs: Inputs) -> list[str]:
    """Lines about stages whose steps take more questions than there are."""
    notes = []
    for number, stage in enumerate(config.stages):
        num = len(inputs.questions.get(stage.name, ()))
        if isinstance(stage, RLStage) and 0 < num < stage.questions_per_step:
            notes.append(
                f"stage {stage.name!r} has {num} questions and takes "
                f"{stage.questions_per_step} per step, so that questions repeat within "
                f"a step; --stages.{number}.questions-per-step {num} takes each once"
            )
    return notes


def _evaluation(config: RunConfig, inputs: Inputs) -> str:
    """A line about the held-out questions, if the config does not name them."""
    file, share = own_file(config), config.data.heldout_share
    if not file:
        missing = (
            "no evaluation: data.source has no held-out questions; give some with "
            "--data.heldout FILE"
        )
        return "" if inputs.heldout else missing
    if inputs.own_heldout:
        return (
            f"evaluation: {len(inputs.own_heldout)} questions of {file} are held out "
            f"and never trained on; they are listed in {heldout_path(config)} (to "
            "evaluate on others: --data.heldout FILE, on none: --data.heldout-share 0)"
        )
    [*_, questions] = inputs.questions.values()
    if not share:
        why = "data.heldout_share is 0"
    elif has_started(config) and is_enough(len(questions), config.data):
        why = f"the run in {config.out} was started without one"
    else:
        why = (
            f"{file} has {len(questions)} questions, and a share of {share:g} of them "
            f"is less than {MIN_HELDOUT}"
        )
    return (
        f"no evaluation: {why}; give questions with --data.heldout FILE, or a larger "
        "--data.heldout-share"
    )


def _mixed(config: RunConfig, inputs: Inputs) -> list[str]:
    """Lines about questions and passages of which only one is the user's own."""
    retrieval = config.retrieval
    file = next(filter(None, question_files(config).values()), "")
    place = retrieval.corpus or retrieval.index or retrieval.url
    if file and inputs.passages and not retrieval.corpus:
        return [
            f"the questions of {file} are searched in the {len(inputs.passages)} "
            "passages of data.source; give passages of your own with "
            "--retrieval.corpus, --retrieval.index or --retrieval.url"
        ]
    if place and not all(question_files(config).values()):
        return [
            f"the questions of data.source are searched in {place}; give questions of "
            "your own with --data.questions"
        ]
    return []
