"""Dependencies between packages, and modules that must be cheap to import."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import jaxsearch

PACKAGE = Path(__file__).resolve().parents[1] / "jaxsearch"

# Every package and top-level module of jaxsearch, and the others it may import.
ALLOWED = {
    # Interfaces and shared modules.
    "announce": set(),
    "array_records": set(),
    "chat": set(),
    "user_code": set(),
    "folder_files": set(),
    "json_files": set(),
    "json_lines": {"bounded_files", "json_files"},
    "json_types": set(),
    "bounded_files": set(),
    "parquet_files": set(),
    "bad_rows": {"visible"},
    "id_ranges": set(),
    "key_addresses": set(),
    "surrogates": set(),
    "hub_files": {"local_paths"},
    "local_paths": set(),
    "visible": set(),
    "try_again": set(),
    "disk_errors": set(),
    "compile_cache": {"visible"},
    "processes": {"compile_cache", "local_paths", "try_again", "visible"},
    "trajectory": set(),
    "metrics": {"trajectory"},
    # Parts that work alone.
    "models": {"folder_files", "json_files", "local_paths"},
    "search": {
        *("array_records", "bad_rows", "bounded_files", "folder_files", "hub_files"),
        *("json_files", "json_lines", "json_types", "local_paths", "models"),
        *("parquet_files", "surrogates"),
    },
    "remote": {"json_files", "json_types", "key_addresses", "search", "surrogates"},
    "protocol": {"json_files", "search", "surrogates", "trajectory"},
    "data": {
        *("array_records", "bad_rows", "bounded_files", "hub_files", "id_ranges"),
        *("json_files", "json_types", "local_paths", "models", "parquet_files"),
        *("protocol", "search", "surrogates"),
    },
    "env": {"data", "protocol", "search", "surrogates", "trajectory"},
    "rewards": {
        *("bad_rows", "bounded_files", "json_files", "local_paths", "metrics"),
        *("processes", "protocol", "trajectory", "user_code"),
    },
    "rl": {"announce", "id_ranges", "metrics", "rewards", "trajectory"},
    "mesh": {"models", "rl"},
    "rollouts": {
        *("announce", "data", "env", "id_ranges", "mesh", "models", "protocol"),
        *("search", "trajectory"),
    },
    "web": {"chat", "env", "json_files", "key_addresses", "search", "surrogates"},
    "verdicts": {
        *("bad_rows", "bounded_files", "chat", "env", "json_files", "json_lines"),
        *("key_addresses", "local_paths", "remote", "search", "surrogates"),
        *("try_again", "web"),
    },
    "monitor": {
        *("bounded_files", "json_lines", "json_types", "metrics", "protocol"),
        *("trajectory", "visible"),
    },
    # The config names the parts, and the modules below combine them.
    "config": {
        *("data", "env", "local_paths", "mesh", "models", "monitor", "remote"),
        *("rewards", "rl", "search", "web"),
    },
    "papers": {"config", "data", "mesh", "models", "rewards", "rl"},
    "run": {
        *(
            "announce",
            "bad_rows",
            "config",
            "data",
            "env",
            "folder_files",
            "hub_files",
            "id_ranges",
        ),
        *("json_files", "json_lines", "json_types", "key_addresses", "local_paths"),
        *("mesh", "metrics", "models", "monitor", "processes", "protocol", "remote"),
        *("rewards", "rl", "rollouts"),
        *("search", "try_again", "user_code", "trajectory", "visible", "web"),
    },
    "served": {
        *("config", "data", "env", "key_addresses", "models", "processes", "protocol"),
        *("remote", "rewards", "rollouts", "run", "search", "surrogates"),
        *("trajectory", "try_again"),
    },
    "evaluation": {
        *("bounded_files", "config", "data", "env", "hub_files", "json_files"),
        *("json_lines", "json_types", "local_paths", "metrics", "models", "monitor"),
        *(
            "processes",
            "protocol",
            "rewards",
            "rollouts",
            "run",
            "search",
            "served",
            "trajectory",
        ),
    },
    "report": {
        *("json_files", "json_lines", "json_types", "local_paths", "metrics"),
        *("monitor", "protocol", "rewards", "run", "trajectory", "visible"),
    },
    "train": {
        *("config", "data", "env", "evaluation", "json_lines", "mesh", "metrics"),
        *("models", "monitor", "processes", "protocol", "report"),
        *("rewards", "rl", "rollouts", "run", "search", "trajectory"),
        *("disk_errors", "local_paths", "try_again"),
    },
    "api": {
        *("config", "data", "env", "evaluation", "hub_files", "key_addresses", "mesh"),
        *("metrics", "models", "monitor", "processes", "protocol", "remote", "report"),
        *("rewards", "rl", "rollouts", "run", "search", "surrogates", "trajectory"),
    },
    "plan": {
        *("config", "data", "mesh", "models", "rewards", "rl", "rollouts", "run"),
        "trajectory",
    },
    "notebook": {
        *("api", "config", "mesh", "models", "plan", "rl", "rollouts", "run"),
        "trajectory",
    },
    "bench": {
        *("data", "env", "json_files", "json_types", "key_addresses", "mesh"),
        *("models", "protocol", "remote", "rl", "rollouts", "run", "search"),
        "trajectory",
    },
    "serve": {"search", "surrogates", "visible"},
    "doctor": {"bench", "rl", "rollouts", "trajectory"},
    "commands": {
        *(
            "bad_rows",
            "bench",
            "config",
            "data",
            "doctor",
            "evaluation",
            "models",
            "monitor",
        ),
        *("plan", "processes", "remote", "report", "rewards", "run", "search", "serve"),
        *("disk_errors", "json_lines", "local_paths", "served", "surrogates", "train"),
        *("try_again", "verdicts", "visible", "web"),
    },
    "__main__": {"commands"},
}


def module_name(path: Path) -> str:
    """`jaxsearch.a.b` of a file; that of a package for its __init__.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def modules_imported_by(path: Path) -> set[str]:
    """Modules of jaxsearch that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in MODULES}


# The public API imports everything, but only on use.
IMPORTS = {
    name: modules_imported_by(path)
    for name, path in MODULES.items()
    if name != "jaxsearch"
}


# Reads JSON of other programs; what a process wrote for itself needs no bounds.
MAY_PARSE_JSON = {
    "jaxsearch.json_files": "the bounded reader",
    "jaxsearch.bench.peer": "of a process that it started",
    "jaxsearch.data.saved_tokenizer": "of a tokenizer in memory",
    "jaxsearch.data.tokenizer": "of a tokenizer in memory",
    "jaxsearch.evaluation.selection": "a round trip",
    "jaxsearch.evaluation.settings": "a round trip",
    "jaxsearch.run.config_record": "a round trip",
    "jaxsearch.search.build_folder": "a round trip",
    "jaxsearch.search.shared_index": "of a process with the same key",
    "jaxsearch.web.page_text": "of a process that it started",
}


def test_json_of_others_is_read_with_bounds():
    found = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("load", "loads"):
                if isinstance(node.value, ast.Name) and node.value.id == "json":
                    found.add(name)
    # Programs of their own, which do not import the package.
    found -= {name for name in found if name.startswith("jaxsearch.bench.peers.")}
    assert found == MAY_PARSE_JSON.keys()


def part_of(name: str) -> str:
    return name.split(".")[1]


def test_every_part_imports_only_what_it_may():
    for name, imported in IMPORTS.items():
        parts = {part_of(other) for other in imported if other != "jaxsearch"}
        extra = parts - ALLOWED[part_of(name)] - {part_of(name)}
        assert not extra, f"{name} imports {sorted(extra)}"


def test_the_table_has_every_part_and_no_other():
    assert set(ALLOWED) == {part_of(name) for name in IMPORTS}


def test_the_arrows_between_parts_point_one_way():
    # Raises CycleError for a cycle.
    list(graphlib.TopologicalSorter(ALLOWED).static_order())
    importers = {part for part, allowed in ALLOWED.items() if "commands" in allowed}
    assert importers == {"__main__"}
    for part in ("models", "search", "protocol", "rollouts", "rewards", "rl", "env"):
        assert "config" not in ALLOWED[part]


def test_no_modules_import_each_other():
    list(graphlib.TopologicalSorter(IMPORTS).static_order())


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
    assert not heavy & loaded_by("import jaxsearch, jaxsearch.commands.command_line")


@pytest.mark.slow
def test_tensorflow_is_nowhere():
    statement = "import jaxsearch.train, jaxsearch.data.question_stream"
    assert "tensorflow" not in loaded_by(statement)


def test_the_public_api_is_what_it_says():
    for name in jaxsearch.__all__:
        value = vars(jaxsearch).get(name, jaxsearch.__getattr__(name))
        assert value.__name__ == name
    assert set(jaxsearch.__all__) <= set(dir(jaxsearch))


def test_editors_see_the_public_api():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == jaxsearch._MODULES
