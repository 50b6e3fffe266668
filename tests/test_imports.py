"""Who may import whom, and what must stay cheap to import."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "jaxsearch"

# Part -> what of ours it may import besides itself.
ALLOWED = {
    "models": set(),
    "search": {"models"},
    "rl": {"trajectory", "metrics", "protocol", "rewards"},
    "rewards": {"trajectory", "metrics", "protocol", "json_lines", "processes"},
}
# `run` puts a config's parts together.
MAY_IMPORT_CONFIG = {
    *("commands", "train", "evaluation", "plan", "bench"),
    *("config", "run", "papers"),
}


def imports_of(path: Path) -> set[str]:
    """Parts of jaxsearch that a module imports, by the name below `jaxsearch`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "jaxsearch":
                names = [f"jaxsearch.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("jaxsearch.")}
    return found


def test_parts_import_only_what_they_may():
    for part, allowed in ALLOWED.items():
        for path in (PACKAGE / part).rglob("*.py"):
            extra = imports_of(path) - allowed - {part}
            assert not extra, f"{path.relative_to(PACKAGE)} imports {sorted(extra)}"


def test_config_stays_at_the_top():
    for path in PACKAGE.rglob("*.py"):
        top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if top not in MAY_IMPORT_CONFIG:
            assert "config" not in imports_of(path), path.relative_to(PACKAGE)


def test_no_drawer_for_everything():
    forbidden = {"utils", "common", "helpers", "base", "util", "misc"}
    names = {path.stem for path in PACKAGE.rglob("*")}
    assert not forbidden & names


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_package_and_its_help_load_nothing_heavy():
    heavy = {"jax", "numpy", "sklearn", "scann", "transformers", "grain", "tyro"}
    assert not heavy & loaded_by("import jaxsearch, jaxsearch.commands.main")


def test_tensorflow_is_nowhere():
    statement = "import jaxsearch.train, jaxsearch.data.question_stream"
    assert "tensorflow" not in loaded_by(statement)
