"""Completion scripts, in the shells that are there."""

import shutil
import subprocess

import pytest

from jaxsearch.commands.command_line import COMMANDS
from jaxsearch.commands.main import main
from jaxsearch.run.config_names import config_names


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of each shell, as a file."""
    folder = tmp_path_factory.mktemp("completion")
    with pytest.MonkeyPatch.context() as patch:
        for shell in ("bash", "zsh", "fish"):
            with (folder / shell).open("w") as file:
                patch.setattr("sys.stdout", file)
                assert main(["completion", shell]) == 0
    return folder


def complete(shell: str, scripts, *words: str, **options) -> list[str]:
    """What the shell suggests after these words, of which the last one is begun."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    flags = ["--norc"]
    if shell == "bash":
        program = (
            'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _jaxsearch; '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
    elif shell == "zsh":
        flags = ["-f"]
        # Without an editor: what `compadd` would receive.
        program = (
            "compdef() { :; }; compadd() { print -l -- $found; }; _files() { :; }; "
            'script="$0"; words=("$@"); CURRENT=$#; source "$script"; _jaxsearch'
        )
    else:
        flags = ["--no-config"]
        program = "source $argv[1]; complete -C (string join -- ' ' $argv[2..])"
    command = [found, *flags, "-c", program, str(scripts / shell), "jaxsearch", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, **options
    )
    assert done.stderr == ""
    suggested = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    return [word for word in suggested if word.startswith(words[-1]) and word]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_words(scripts, shell, tmp_path):
    def words(*typed):
        return set(complete(shell, scripts, *typed, cwd=tmp_path))

    assert words("") == set(COMMANDS)
    assert words("co") == {"config", "corpus", "completion"}
    assert words("index", "") >= {"build", "search", "check"}
    assert words("train", "quick") == {
        name for name in config_names() if name.startswith("quick")
    }
    assert "--fresh" in words("train", "quickstart", "--")
    assert "--rollout.max-len" in words("train", "quickstart", "--rollout.")
    assert "--stages.1.model.lora.rank" not in words("train", "quickstart", "--st")
    assert words("export", "runs/a", "out", "--dtype", "") == {"bfloat16", "float32"}
    assert words("index", "build", "--cor") == {"--corpus"}
    assert words("config", "show", "small_qwen2_5_3") == {"small_qwen2_5_3b"}
    assert "--model" in words("eval", "--")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_value_of_an_option_is_a_file(scripts, shell):
    """Nothing is suggested, so that the shell completes files."""
    assert complete(shell, scripts, "eval", "--questions", "") == []
    assert complete(shell, scripts, "train", "a.py", "--data.questions", "") == []
    assert complete(shell, scripts, "report", "") == []


def test_bash_completes_files_where_there_is_no_word(scripts):
    command = ["bash", "--norc", "-c", 'source "$0"; complete -p jaxsearch']
    done = subprocess.run(
        [*command, str(scripts / "bash")], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "complete -o bashdefault -o default -F _jaxsearch jaxsearch\n"
    )
    shellcheck = shutil.which("shellcheck")
    if shellcheck is not None:
        subprocess.run([shellcheck, "-s", "bash", str(scripts / "bash")], check=True)


def test_no_json(capsys):
    assert main(["completion", "bash", "--json"]) == 2
    assert "a script is no JSON" in capsys.readouterr().err
