"""Whether a run can write to Weights & Biases, found before it starts."""

import os
from collections.abc import Mapping
from typing import Literal

# Values of WANDB_MODE with which W&B sends what it is given.
_SENDING = ("online", "shared", "run")
_OR_OFFLINE = "or keep the metrics in the run's folder with --logging.wandb offline"


def check_wandb(
    mode: Literal["offline", "online", "disabled"],
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Checks that an online run can log in, and that WANDB_MODE says the same.

    W&B looks for the key, in WANDB_API_KEY and where `wandb login` saves it, and asks
    its server whether it accepts it.

    Args:
      mode: what the config says.
      environ: the environment's variables.

    Raises:
      ValueError: if there is no key, it is refused, the server does not answer, or one
        of config and WANDB_MODE sends the metrics and the other does not.
    """
    if mode == "disabled":
        return
    variable = environ.get("WANDB_MODE", "")
    if variable and (variable in _SENDING) != (mode == "online"):
        other = "online" if variable in _SENDING else "offline"
        raise ValueError(
            f"logging.wandb is {mode}, but WANDB_MODE is {variable} in the "
            f"environment: unset WANDB_MODE, or say --logging.wandb {other}"
        )
    if mode != "online":
        return
    import wandb

    try:
        has_key = wandb.login(prompt=False)
    except wandb.errors.AuthenticationError as error:
        raise ValueError(
            f"--logging.wandb online: {str(error).rstrip('.')}; set WANDB_API_KEY to a "
            f"key of your account, {_OR_OFFLINE}"
        ) from None
    if not has_key:
        raise ValueError(
            "--logging.wandb online needs a key of Weights & Biases: set "
            f"WANDB_API_KEY, run `wandb login`, {_OR_OFFLINE}"
        )
