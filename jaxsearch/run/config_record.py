"""Configs as JSON: recorded in a run's folder, compared and restored."""

import json
from collections.abc import Callable
from typing import Any

from jaxsearch.config import RLStage, RunConfig, SupervisedStage
from jaxsearch.key_addresses import allow_keys
from jaxsearch.run import config_values
from jaxsearch.run.old_names import with_new_names
from jaxsearch.run.trust import named_in_folder, trust_own
from jaxsearch.user_code import code_folder
from jaxsearch.web.service import key_of

# Guards that affect training; the others only raise alarms.
_DECIDING_GUARDS = ("drops_non_finite", "drops_overlong")

# Fields that may change when a run resumes, by section. They affect duration, speed,
# frequencies and devices, not the data or the objective. A learning rate schedule spans
# the steps of its stage, including those made with an earlier rate. A different mesh or
# different microbatches change the rounding of gradient sums.
CHANGEABLE = {
    "model": ("remat",),
    "mesh": ("data", "fsdp", "tensor"),
    "rollout": ("num_slots", "cache_len", "tensor", "replicas"),
    "eval": ("every", "patience", "min_improvement", "num_printed"),
    "checkpoint": ("every", "keep", "keep_every", "minutes", "keep_non_finite"),
    "stages": ("steps", "optimizer.learning_rate", "max_skipped", "max_tokens"),
}
# Settings of a search that affect how failures are met, or where it is done.
_NOT_DECIDING_RETRIEVAL = (
    *("attempts", "timeout_s", "min_kept", "max_outage_s", "url", "heldout_url"),
    *("dialect", "client"),
)
# Settings of a web search that affect its answers.
_DECIDING_WEB = (
    *("snippets", "site", "date_limit", "pages", "max_chars", "summary_model"),
)


def resolved(config: Any) -> Any:
    """A config, a section of one or a list of stages as JSON values.

    `config_values.recorded` describes how functions and objects are written.
    """
    if isinstance(config, tuple | list):
        return [resolved(item) for item in config]
    is_stage = isinstance(config, SupervisedStage | RLStage)
    hint = SupervisedStage | RLStage if is_stage else type(config)
    return config_values.recorded(config, hint)


def restored(
    fields: dict[str, Any], resolve: Callable[[str], Any] = named_in_folder
) -> RunConfig:
    """The inverse of `resolved`: a config from its JSON values.

    Field names and function names of earlier versions are translated.

    Args:
      fields: the JSON values.
      resolve: finds the object at `module:qualname`; by default only those that a
        folder may name.

    Raises:
      UntrustedError: for a function or object that is not trusted.
      ValueError: for one that cannot be imported (for example because it is defined in
        a config file) or a field that this version does not have.
    """
    try:
        return config_values.restored(with_new_names(fields), RunConfig, resolve)
    except (TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"this config was written by another version of jaxsearch: {error!s:.500}"
        ) from None


def check_restorable(config: RunConfig) -> None:
    """Checks that a run's folder can record every value of the config.

    Raises:
      ValueError: for a value that could not be restored, or would not be the same.
    """
    record = json.loads(json.dumps(resolved(config)))
    try:
        # The config is the user's program, and has all of its values already.
        again = config_values.restored(record, RunConfig, config_values.imported)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"a value of this config cannot be restored from its fields: {error}"
        ) from None
    if differs := difference(record, resolved(again)):
        raise ValueError(
            f"a value of this config is another one when it is made of its fields: "
            f"{differs}"
        )


def lasting(config: RunConfig) -> dict[str, Any]:
    """The fields of the identity that a resumed run must not change."""
    return lasting_fields(identity(config))


def lasting_fields(fields: Any) -> Any:
    """A recorded identity without `CHANGEABLE` and without `warmup_steps`.

    It may lack them or have them malformed.
    """
    for section, names in CHANGEABLE.items():
        parts = fields.get(section) if isinstance(fields, dict) else None
        for part in parts if isinstance(parts, list) else [parts]:
            for name in names:
                *inner, last = name.split(".")
                holder = part
                for word in inner:
                    holder = holder.get(word) if isinstance(holder, dict) else None
                if isinstance(holder, dict):
                    holder.pop(last, None)
    if isinstance(fields, dict):
        fields.pop("warmup_steps", None)
    return fields


def identity(config: RunConfig) -> dict[str, Any]:
    """The fields of a config that affect training.

    Omitted are `steps`, `out` and logging; the retriever's attempts, timeout and
    outages, and the web's budgets, timeouts, cache and endpoints, so that a run that
    stopped because of them can resume with other values; where search servers are and
    how they are asked, because their fingerprints are compared; the settings of the web
    without it, and of LoRA if it is off; the prompts' date if it is not given; the
    guards that only raise alarms; and whether bad rows and long prompts are left out,
    because the questions have a fingerprint of their own.
    """
    fields = resolved(config)
    fields["retrieval"]["has_server"] = bool(config.retrieval.url)
    for name in _NOT_DECIDING_RETRIEVAL:
        del fields["retrieval"][name]
    if config.retrieval.web is None:
        del fields["web"], fields["retrieval"]["web"]
    else:
        fields["web"] = {name: fields["web"][name] for name in _DECIDING_WEB}
        fields["retrieval"]["web"] = key_of(config.retrieval.web)
    for name in ("skip_bad_rows", "drop_long_prompts"):
        del fields["data"][name]
    fields["guards"] = {name: fields["guards"][name] for name in _DECIDING_GUARDS}
    if not config.model.lora.rank:
        del fields["model"]["lora"]
    if not config.model.prompt_date:
        del fields["model"]["prompt_date"]
    return {k: v for k, v in fields.items() if k not in ("steps", "out", "logging")}


def code_folders(record: Any) -> dict[str, str]:
    """Folders of the user's modules that a resolved config names, by module.

    They are not part of a run's identity, so that a project may be moved.
    """
    if isinstance(record, str):
        module, colon, _ = record.partition(":")
        folder = code_folder(module) if colon else ""
        return {module: folder} if folder else {}
    items = record.values() if isinstance(record, dict) else record
    found: dict[str, str] = {}
    for item in items if isinstance(record, dict | list) else ():
        found |= code_folders(item)
    return found


def trust_config(config: RunConfig) -> None:
    """Trusts what a config of the user names, because it is the user's program.

    A folder may name the same functions, objects and modules, and the servers that it
    searches may have the user's keys.
    """
    record = resolved(config)
    trust_own(_names(record) | code_folders(record).keys())
    trust_servers(config)


def trust_servers(config: RunConfig) -> None:
    """Lets the servers that a config of the user searches have the user's keys."""
    allow_keys(*_names(resolved(config.retrieval)), config.web.summary_url)


def _names(record: Any) -> set[str]:
    """All texts of a record with a colon, such as `module:qualname` and addresses."""
    if isinstance(record, str):
        return {record} if ":" in record else set()
    items = record.values() if isinstance(record, dict) else record
    is_nested = isinstance(record, dict | list)
    return set().union(*map(_names, items)) if is_nested else set()


def difference(first: Any, second: Any, path: str = "") -> str:
    """Describes the first difference between two resolved configs; "" if none."""
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
    if first == second:
        return ""
    return f"{path:.200} is {first!r:.500} there and {second!r:.500} here"
