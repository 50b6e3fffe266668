"""Names of earlier versions, for old command lines, config files and run folders."""

from typing import Any

# Old dotted path of a config field -> its new name. `*` stands for any stage.
OLD_NAMES = {
    "model.is_rematerialised": "remat",
    "model.has_packed_rows": "pack_sequences",
    "data.material": "source",
    "stages.*.recipe": "task",
    "stages.*.has_whitened_advantages": "whiten_advantages",
    "stages.*.updates_per_step": "minibatches_per_step",
}

# Functions recorded in the folders of old runs -> their new locations.
OLD_VALUES = {
    "jaxsearch.data.material:no_material": "jaxsearch.data.dataset:no_dataset",
    "jaxsearch.data.quickstart:material": "jaxsearch.data.quickstart:dataset",
    "jaxsearch.data.quickstart:r1_searcher_material": (
        "jaxsearch.data.quickstart:r1_searcher_dataset"
    ),
    "jaxsearch.data.sample:material": "jaxsearch.data.sample:dataset",
    "jaxsearch.data.sample:material_with_heldout": (
        "jaxsearch.data.sample:dataset_with_heldout"
    ),
}

# Modules imported by config files of earlier versions -> their new locations.
OLD_MODULES = {
    "jaxsearch.data.material": "jaxsearch.data.dataset",
    "jaxsearch.guards": "jaxsearch.monitor.guards",
    "jaxsearch.rewards.recipes": "jaxsearch.rewards.tasks",
}


def new_path(path: str) -> str:
    """The current dotted path of a config field; unchanged if it was never renamed."""
    words = path.split(".")
    is_stage = words[0] == "stages" and len(words) > 1
    pattern = ".".join(["stages", "*", *words[2:]] if is_stage else words)
    return ".".join([*words[:-1], OLD_NAMES.get(pattern, words[-1])])


def new_keyword(keyword: str) -> str:
    """The current name of a field that was renamed; "" if it was not."""
    renamed = {old.split(".")[-1]: new for old, new in OLD_NAMES.items()}
    return renamed.get(keyword, "")


def with_new_names(record: Any, path: str = "") -> Any:
    """A recorded config with the current names of its fields."""
    if isinstance(record, list):
        return [with_new_names(v, f"{path}.{i}") for i, v in enumerate(record)]
    if not isinstance(record, dict):
        return record
    renamed = {}
    for key, value in record.items():
        here = f"{path}.{key}".strip(".")
        renamed[new_path(here).split(".")[-1]] = with_new_names(value, here)
    return renamed
