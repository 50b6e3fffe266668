"""The date that chat templates read is fixed when a run starts, and recorded."""

import dataclasses
import datetime
import json
from pathlib import Path

import pytest

from jaxsearch.run.config_record import identity
from jaxsearch.run.folder import (
    check_identity,
    read_run_config,
    with_prompt_date,
    write_record,
)
from tests.tiny import tiny_config


def dated(config, date):
    model = dataclasses.replace(config.model, prompt_date=date)
    return dataclasses.replace(config, model=model)


def start(config):
    """Begins a run as `train` does; returns its date."""
    check_identity(config)
    config = with_prompt_date(config)
    write_record(config, frozen="")
    return config.model.prompt_date


def change_record(folder: Path, date: str | None):
    """Moves the start of the run to another day; None for an earlier version's."""
    record = json.loads((folder / "config.json").read_text())
    for fields in (record["model"], record["identity"]["model"]):
        fields["prompt_date"] = date
        if date is None:
            del fields["prompt_date"]
    (folder / "config.json").write_text(json.dumps(record))


def test_a_resumed_run_has_the_date_of_its_start(tmp_path):
    config = tiny_config(tmp_path / "run")
    days = {str(datetime.date.today())}
    started = start(config)
    assert started in days | {str(datetime.date.today())}
    change_record(tmp_path / "run", "2026-02-03")
    assert start(config) == start(config) == "2026-02-03"
    assert read_run_config(tmp_path / "run").model.prompt_date == "2026-02-03"


def test_a_run_of_an_earlier_version_gets_a_date(tmp_path):
    config = tiny_config(tmp_path / "run")
    start(config)
    change_record(tmp_path / "run", None)
    date = start(config)
    assert read_run_config(tmp_path / "run").model.prompt_date == date != ""


def test_another_date_is_another_run(tmp_path):
    config = dated(tiny_config(tmp_path / "run"), "2026-02-03")
    assert start(config) == "2026-02-03"
    assert start(config) == "2026-02-03"
    with pytest.raises(
        ValueError, match="prompt_date is '2026-02-03' there and '2026-"
    ):
        check_identity(dated(config, "2026-02-04"))


def test_the_identity_of_a_run_without_a_date_is_that_of_earlier_versions(tmp_path):
    config = tiny_config(tmp_path / "run")
    assert "prompt_date" not in identity(config)["model"]


@pytest.mark.parametrize("date", ["today", "2026-02-30", "3 Feb 2026"])
def test_what_is_no_day_is_refused(tmp_path, date):
    with pytest.raises(ValueError, match="prompt_date must be a day such as"):
        dated(tiny_config(tmp_path), date)
