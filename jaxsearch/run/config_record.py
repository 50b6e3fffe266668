"""A config as JSON: written to a run's folder, compared, restored."""

from typing import Any

from jaxsearch.config import RLStage, RunConfig, SupervisedStage
from jaxsearch.run import config_values
from jaxsearch.run.old_names import with_new_names

# Guards that change what a run learns; the others only raise alarms.
_DECIDING_GUARDS = ("drops_non_finite", "drops_overlong")


def resolved(config: Any) -> Any:
    """A config, a section of one or a list of stages as JSON values.

    See `config_values.recorded` for how functions and objects are written.
    """
    if isinstance(config, tuple | list):
        return [resolved(item) for item in config]
    is_stage = isinstance(config, SupervisedStage | RLStage)
    hint = SupervisedStage | RLStage if is_stage else type(config)
    return config_values.recorded(config, hint)


def restored(fields: dict[str, Any]) -> RunConfig:
    """The config that `resolved` made these JSON values of.

    Field names and function names of earlier versions are translated.

    Raises:
      ValueError: for a function that cannot be imported (it must not be defined in a
        config file) or a field that this version does not have.
    """
    try:
        return config_values.restored(with_new_names(fields), RunConfig)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"this config was written by another version of jaxsearch: {error}"
        ) from None


def check_restorable(config: RunConfig) -> None:
    """Checks that a run's folder can record every value of the config.

    Raises:
      ValueError: for a value that could not be restored.
    """
    restored(resolved(config))


def identity(config: RunConfig) -> dict[str, Any]:
    """The part of a config that decides what a run learns.

    It leaves out `steps`, `out` and logging; the patience with the retriever, so that
    a run that it failed may go on with more; the settings of LoRA where it is off; and
    the guards that only raise alarms.
    """
    fields = resolved(config)
    for name in ("attempts", "timeout_s"):
        del fields["retrieval"][name]
    fields["guards"] = {name: fields["guards"][name] for name in _DECIDING_GUARDS}
    if not config.model.lora.rank:
        del fields["model"]["lora"]
    return {k: v for k, v in fields.items() if k not in ("steps", "out", "logging")}


def difference(first: Any, second: Any, path: str = "") -> str:
    """The first place where two resolved configs differ, in words; "" if none."""
    if isinstance(first, dict) and isinstance(second, dict):
        pairs = [(f"{path}.{key}".strip("."), key) for key in first | second]
        parts = (difference(first.get(k), second.get(k), where) for where, k in pairs)
        return next((part for part in parts if part), "")
    if isinstance(first, list) and isinstance(second, list):
        if len(first) == len(second):
            parts = (
                difference(a, b, f"{path}.{i}")
                for i, (a, b) in enumerate(zip(first, second, strict=True))
            )
            return next((part for part in parts if part), "")
    return "" if first == second else f"{path} is {first!r} there and {second!r} here"
