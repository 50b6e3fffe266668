"""The record of where the policy of a warm start came from."""

from pathlib import Path
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.models.transformer import Params
from jaxsearch.run.checkpoint import newest_step
from jaxsearch.run.fingerprint import fingerprint
from jaxsearch.run.folder import read_record
from jaxsearch.run.warm_start import origin_of


def origin_record(config: RunConfig, initial: Params) -> dict[str, Any]:
    """Describes the policy that a run begins from, for its `config.json`.

    A run that resumes keeps its record, even if the other run has been trained further.

    Args:
      config: the run's config.
      initial: its initial parameters.

    Returns:
      The folder of the other run, the step of its checkpoint, a description of the
      checkpoint, and the fingerprint of the parameters (with new adapters, if there are
      any); {} without a warm start.

    Raises:
      ValueError: if the run has no checkpoint yet, and began from other parameters.
    """
    origin = origin_of(config.model.path)
    if origin is None:
        return {}
    folder, recorded = Path(config.out), {}
    if (folder / "config.json").is_file():
        recorded = read_record(folder).get("origin", {})
    if recorded and newest_step(folder) is not None:
        return recorded
    choice = origin.checkpoint()
    here = {
        "run": origin.config.out,
        "step": choice.step,
        "checkpoint": choice.description,
        "fingerprint": fingerprint(initial),
    }
    if recorded and recorded.get("fingerprint") != here["fingerprint"]:
        raise ValueError(
            f"{folder} began from step {recorded.get('step')} of "
            f"{recorded.get('run')}, which has other parameters now (step "
            f"{here['step']}); name the step, as in "
            f"{origin.config.out}/checkpoints/{here['step']}, and another --out"
        )
    return here
