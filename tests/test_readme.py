"""The READMEs are correct: code blocks run, and commands and options exist."""

import contextlib
import html
import http.server
import importlib
import io
import itertools
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.commands.main import main
from jaxsearch.config import RunConfig
from jaxsearch.data import quickstart
from jaxsearch.env.environment import RolloutId
from jaxsearch.json_lines import replace_lines
from jaxsearch.models.families.table import FAMILIES
from jaxsearch.models.row_attention import PLAIN
from jaxsearch.monitor.trajectory_printer import print_trajectory
from jaxsearch.protocol import QUICKSTART
from jaxsearch.rewards.own import Search
from jaxsearch.rewards.tasks import TASKS
from jaxsearch.rl.credit import StepRollouts
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import check_restorable
from jaxsearch.search.index import Retriever
from jaxsearch.search.indexes import build_index
from jaxsearch.search.passages import read_passages
from jaxsearch.train import train
from jaxsearch.trajectory import Segment, Status, Trajectory
from tests.tiny import dataset, tiny_config, worlds

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FOLDER_READMES = sorted(
    [*ROOT.glob("*/README.md"), *ROOT.glob("jaxsearch/*/README.md")]
)
# Commands that need a trained run.
NEED_A_RUN = ("ask", "report")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced code blocks of a Markdown file in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(), re.M | re.S)
    return [text for name, text in found if name == language]


def file_name(block: str) -> str:
    """The file name in the first line of a block; "" for other blocks."""
    found = re.match(r"# (\w+\.py)\n", block)
    return found.group(1) if found else ""


def commands(path: Path) -> list[list[str]]:
    """The commands of a README's bash blocks, as lists of words."""
    text = "\n".join(blocks(path, "bash")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words for words in lines if words]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which the README's relative paths exist, with a tiny trained run."""
    home = tmp_path_factory.mktemp("readme")
    for name in ("configs", "launch"):
        (home / name).symlink_to(ROOT / name)
    passages = [
        {"id": str(i), "contents": f"Page {i}\nPage {i} is about word{i} of a film."}
        for i in range(40)
    ]
    replace_lines(home / "corpus.jsonl", passages)
    question = {"id": "q", "question": "What is page 3 about?"}
    replace_lines(home / "questions.jsonl", [question | {"golden_answers": ["word3"]}])
    for path in (README, *FOLDER_READMES):
        for block in blocks(path, "python"):
            if name := file_name(block):
                (home / name).write_text(block)
    with contextlib.chdir(home), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home)
        patch.setenv("JAXSEARCH_DATA", str(home / "sets"))
        yield home


@pytest.fixture(scope="module")
def trained(home):
    """`home` with the trained runs that the README's commands use."""
    train(tiny_config(Path("runs/quickstart"), warmup_steps=1, steps=1))
    Path("runs/small_qwen2_5_1_5b").symlink_to("quickstart")
    return home


@pytest.fixture
def configs(monkeypatch):
    """The configs that commands would train; slow steps are replaced.

    Training only records its config, `plan` computes without compiling, and an index
    with an encoder from the Hub is not built.
    """
    from jaxsearch.plan import plan
    from jaxsearch.search import build

    found: list[RunConfig] = []
    real_plan, real_build = plan.plan, build.build_index_folder

    def record(config, *_, rewind_to):
        found.append(config)
        return {"minutes": 0.0}

    def plan_by_arithmetic(config, topology, *, is_compiled):
        return real_plan(config, topology, is_compiled=False)

    def build_by_words(**options):
        is_of_words = options["encoder"] in ("tfidf", "bm25")
        return real_build(**options) if is_of_words else {}

    monkeypatch.setattr("jaxsearch.train.train", record)
    monkeypatch.setattr(plan, "plan", plan_by_arithmetic)
    monkeypatch.setattr(build, "build_index_folder", build_by_words)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    return found


def check_command(words: list[str], configs: list[RunConfig]) -> None:
    """Runs one command of a README, or checks as much of it as possible."""
    while "=" in words[0]:
        words = words[1:]
    if words[0] == "bash":
        subprocess.run(["bash", "-n", words[1]], check=True)
    elif words[:2] == ["pip", "install"]:
        # By its path: whoever registers the name elsewhere could run code.
        [extra] = re.findall(r"^-e \.\[(\w+)\]$", " ".join(words[2:]))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extra in project["optional-dependencies"]
    elif words[0] in ("jupyter", "python"):
        assert all((ROOT / word).exists() for word in words[1:] if "/" in word)
    else:
        assert words[0] == "jaxsearch"
        assert main(words[1:]) == 0
        assert len(configs) == (words[1] == "train")
        for config in configs:
            check_restorable(config)


@pytest.mark.parametrize(
    "words",
    [w for w in commands(README) if w[1] not in NEED_A_RUN],
    ids=" ".join,
)
def test_commands_of_the_readme_run(home, configs, words):
    check_command(words, configs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [w for w in commands(README) if w[1] in NEED_A_RUN], ids=" ".join
)
def test_commands_on_a_trained_run_run(trained, configs, words):
    check_command(words, configs)


@pytest.mark.slow
@pytest.mark.parametrize("path", FOLDER_READMES, ids=lambda path: path.parent.name)
def test_commands_of_folder_readmes_run(home, configs, path):
    for words in commands(path):
        configs.clear()
        check_command(words, configs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [README, ROOT / "jaxsearch/run/README.md", ROOT / "jaxsearch/rl/README.md"],
    ids=lambda path: path.parent.name,
)
def test_python_of_the_readme_runs(trained, path):
    for block in blocks(path, "python"):
        if file_name(block):
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(path), "exec"), {})
        shown = re.findall(r"^print\(.*\n((?:^# .*\n)+)", block, re.M)
        expected = "".join(shown).replace("# ", "")
        assert printed.getvalue().endswith(expected)


def test_the_readme_s_notebook_is_short():
    [block] = [b for b in blocks(README, "python") if "jaxsearch.rollout(" in b]
    lines = [line for line in block.splitlines() if line]
    [shown] = [i for i, line in enumerate(lines) if line.startswith("trajectories[0]")]
    [updated] = [i for i, line in enumerate(lines) if "trainer.step(" in line]
    assert shown < 8 and updated < 15
    assert block.count('?", "') == 3  # questions


def test_the_readme_s_config_loads(home):
    config = read_config("my_run.py")
    check_restorable(config)
    [_, search] = config.stages
    assert search.advantage is sys.modules["mine"].above_the_mean


def counting_protocol():
    return replace(QUICKSTART, calls=(importlib.import_module("counting").COUNT,))


def counting_dataset(run_folder, seed):
    """Small worlds, with a tokenizer that has the tool's tags."""
    heldout, *others = worlds(seed)
    tokenizer = quickstart.make_tokenizer(
        [heldout, *itertools.chain(*others)], counting_protocol()
    )
    return replace(dataset(run_folder, seed), tokenizer=tokenizer)


@pytest.mark.slow
def test_the_readme_s_task_advantage_and_tool_train(home):
    mine = importlib.import_module("mine")
    my_rewards = importlib.import_module("my_rewards")
    task = replace(mine.TAGGED, protocol=counting_protocol())
    config = tiny_config(Path("runs/mine"), warmup_steps=1, steps=1)
    config = replace(config, data=replace(config.data, source=counting_dataset))
    read, search = config.stages
    search = replace(
        search,
        task=task,
        reward=my_rewards.frugal,
        advantage=mine.above_the_mean,
    )
    environment = importlib.import_module("letters").with_search
    config = replace(config, stages=(read, search), environment=environment)
    assert train(config)["run"] == "runs/mine"


def test_the_readme_s_reward_charges_for_searches(home):
    frugal = importlib.import_module("my_rewards").frugal
    row, searches = {"golden_answers": ["b"]}, [Search(query="a", result="b")]
    right = frugal("?", " b ", searches=searches, row=row)
    assert right == {"right": 1.0, "searches": -0.05}
    assert frugal("?", None, searches=[], row=row)["right"] == 0.0


def test_the_advantage_of_a_turn(home):
    last_turn = importlib.import_module("last_turn")
    rewards, is_kept = jnp.array([[1.0, 0.0]]), jnp.ones((1, 2), bool)
    rollouts = StepRollouts((), (), np.array([[2, 1]], np.int32))
    advantages = last_turn.credit_last_turn(rewards, is_kept, rollouts)
    half = 0.5**0.5
    np.testing.assert_allclose(advantages, [[[0, half], [-half, 0]]], rtol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
def test_the_attention_kernel(home, window):
    kernel = importlib.import_module("my_attention").JAX_NN
    heads = jax.random.normal(jax.random.key(0), (3, 2, 16, 4, 8))
    arguments = heads[0], heads[1, :, :, :2], heads[2, :, :, :2], window
    expected = PLAIN.attend(*arguments)
    np.testing.assert_allclose(kernel.attend(*arguments), expected, atol=1e-5)


def test_the_retriever(home):
    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert asked["k"] == 3
            hits = [
                [{"id": "7", "contents": query, "score": 0.5}]
                for query in asked["queries"]
            ]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(hits).encode())

        def log_message(self, *words):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        http_search = importlib.import_module("http_search")
        retriever = http_search.HttpSearch(f"http://127.0.0.1:{server.server_port}/")
        assert isinstance(retriever, Retriever)
        first, second = retriever.search(["a", "b"], 3)
        server.shutdown()
    assert [hit.passage.contents for hit in (*first, *second)] == ["a", "b"]


@pytest.mark.parametrize(("query", "result"), [("r error", "3"), ("", "error")])
def test_the_tool(home, query, result):
    letters = importlib.import_module("letters").Letters()
    turn = (RolloutId(0, 0, 0), f"so <count> {query} </count>")
    [observation] = letters.step([turn])
    assert observation.text(observation.parts).startswith(f" <value> {result}")


def test_the_tool_s_task(home):
    """A call is neutral in the format; writing its result is not paid."""
    task = importlib.import_module("counting").COUNTING
    end = task.protocol.answer_turn("three", "\\boxed{3}")

    def reward(*segments):
        parts = [Segment(text=text, is_policy=by) for text, by in segments]
        judged = task.judge(parts, ["3"], has_ended=True, label="a test")
        return judged.reward

    call = "<think> count </think> <count> r error </count>"
    assert reward((call, True), (" <value> 3 </value>", False), (end, True)) == 1.0
    assert reward((f"{call} <value> 3 </value> {end}", True)) == 0.0


def test_the_encoder(home):
    encoder = importlib.import_module("trigrams").TRIGRAMS
    passages = read_passages("corpus.jsonl")
    [hits] = build_index(passages, encoder).search(["about word17"], 1)
    assert hits[0].passage.title == "Page 17"


def test_the_table_of_values_names_fields_and_files(home, capsys):
    text = (ROOT / "configs/README.md").read_text()
    rows = re.findall(r"^\| .* \| (.*) \| (`.*\.py`) \|$", text, re.M)
    assert len(rows) >= 6
    with pytest.raises(SystemExit):
        main(["train", "configs/research_qwen2_5_7b.py", "--help"])
    shown = capsys.readouterr().out
    for fields, contracts in rows:
        for field in re.findall(r"`([\w.]+)`", fields):
            option = f"--{field.replace('N', '0').replace('_', '-')}"
            assert field.startswith("models/") or option in shown, field
        for contract in re.findall(r"`(\S+\.py)`", contracts):
            assert (ROOT / "jaxsearch" / contract).exists(), contract


def test_options_of_the_command_table_exist(capsys):
    rows = re.findall(r"^\| (`.*?) \|", README.read_text(), re.M)
    named = [words for row in rows for words in re.findall(r"`(.*?)`", row)]
    assert len(named) >= 13
    for text in named:
        words = text.split()
        command = words[:2] if words[0] in ("index", "bench") else words[:1]
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--help"])
        assert stopped.value.code == 0
        usage = capsys.readouterr().out
        for option in re.findall(r"--[a-z][a-z-]*(?![.\w])", text):
            assert option in usage, (command, option)


def test_every_task_is_named():
    text = (ROOT / "configs/README.md").read_text()
    for name in TASKS:
        assert name.startswith("quickstart") or f"`{name}`" in text


@pytest.mark.parametrize("path", [README, ROOT / "jaxsearch/models/README.md"])
def test_every_model_family_is_named(path):
    for family in FAMILIES:
        name, version = re.match(r"([a-z]+)(\d*)", family.model_type).groups()
        assert re.search(f"{name} ?{version}", path.read_text(), re.I), (
            family.model_type
        )


QUESTION = "What is the birthplace of the mayor of Vasdib?"
SEGMENTS = (
    (" <think> Vasdib mayor </think> <search> Vasdib </search>", True),
    (" <result> Vasdib is a city in Vaznuk led by Parruk. </result>", False),
    (" <think> Parruk birthplace </think> <search> Parruk </search>", True),
    (" <result> Parruk was born in Zegbol and married Sevviz. </result>", False),
    (" <answer> \\boxed{ Zegbol } </answer></s>", True),
)


def test_the_printed_rollout_is_what_the_command_prints(capsys):
    nothing = np.zeros(0)
    trajectory = Trajectory(
        question_id="q",
        question=QUESTION,
        golden_answers=("Zegbol",),
        prompt_index=0,
        sample_index=0,
        **dict.fromkeys(("tokens", "is_policy", "logprobs"), nothing),
        sampling_logprobs=nothing,
        prompt_len=0,
        segments=tuple(Segment(text=t, is_policy=p) for t, p in SEGMENTS),
        tool_calls=(),
        status=Status.ANSWERED,
    )
    print_trajectory(trajectory, QUICKSTART)
    [shown] = [text for text in blocks(README, "") if text.startswith(QUESTION)]
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines()] == [
        line.split() for line in shown.splitlines()
    ]


def test_the_picture_shows_that_rollout():
    rows = re.findall(
        r"monospace[^>]*>(.*?)</text>.*?>(given|sampled|retrieved)<.*?>(yes|no)<",
        (ROOT / "launch/trajectory.svg").read_text(),
        re.S,
    )
    (prompt, *_), *spans = [(html.unescape(text), *rest) for text, *rest in rows]
    assert prompt == QUESTION
    written = "".join(text for text, _ in SEGMENTS).replace("</s>", " + end token")
    assert " ".join(text for text, _, _ in spans) == written.strip()
    for text, author, is_trained in spans:
        [is_policy] = [p for segment, p in SEGMENTS if text.split(" +")[0] in segment]
        assert (author == "sampled") == (is_trained == "yes") == is_policy


def test_the_tree_is_that_of_the_package():
    [tree] = re.findall(r"^```\n(jaxsearch/\n.*?)^```", README.read_text(), re.M | re.S)
    shown = set(re.findall(r"^  (\S+)", tree, re.M))
    folders = {
        f"{path.name}/" for path in (ROOT / "jaxsearch").iterdir() if path.is_dir()
    }
    assert {name for name in shown if name.endswith("/")} == folders - {"__pycache__/"}
    for name in shown:
        assert (ROOT / "jaxsearch" / name).exists(), name


@pytest.mark.parametrize(
    "path", [README, *FOLDER_READMES], ids=lambda path: path.parent.name
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        assert (path.parent / file).exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)", (path.parent / file).read_text(), re.M)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}


def test_the_function_tool(home):
    tool = importlib.import_module("calculator").CALCULATOR
    [observation] = tool.step([(RolloutId(0, 0, 0), "so <calc> 3 + 4 </calc>")])
    text = observation.text(observation.parts)
    assert text == " <calc_result> 7 </calc_result>"
