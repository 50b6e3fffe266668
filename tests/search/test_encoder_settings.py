"""Tests of encoder settings: from older and newer files, and from options."""

import json

import pytest

from jaxsearch.search.encoder_options import EncoderOptions
from jaxsearch.search.encoder_settings import EncoderSettings, read_settings

OLD = "sentence_transformers.models."
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": OLD + "Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": OLD + "Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": OLD + "Normalize"},
]


@pytest.fixture
def write(tmp_path):
    def write(**files):
        """Writes files given by name, without `.json` and with `__` for `/`."""
        for name, content in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(
                content if isinstance(content, str) else json.dumps(content)
            )
        return tmp_path

    return write


def read(folder, **options):
    return read_settings(
        folder, EncoderOptions(**options), max_positions=512, tokenizer_len=300
    )


def test_the_files_of_older_models(write):
    flags = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}
    flags |= {"pooling_mode_cls_token": False, "pooling_mode_max_tokens": False}
    folder = write(
        modules=MODULES,
        **{"1_Pooling__config": flags},
        sentence_bert_config={"max_seq_length": 256, "do_lower_case": False},
        config_sentence_transformers={"__version__": {"pytorch": "1.8.1"}},
    )
    assert read(folder) == EncoderSettings(
        pooling="mean",
        is_normalised=True,
        query_prefix="",
        passage_prefix="",
        max_len=256,
        dtype="float32",
    )
    write(**{"1_Pooling__config": {"pooling_mode_cls_token": True}})
    write(modules=MODULES[:2])
    found = read(folder)
    assert (found.pooling, found.is_normalised) == ("cls", False)


def test_the_files_of_newer_models(write):
    kinds = ["base.modules.transformer.Transformer", "a.pooling.Pooling"]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(zip(["", "pool"], kinds, strict=True))
    ]
    prompts = {"query": "query: ", "document": "doc: ", "passage": "passage: "}
    folder = write(
        modules=modules,
        pool__config={"pooling_mode": "cls", "include_prompt": True},
        sentence_bert_config={"module_output_name": "token_embeddings"},
        config_sentence_transformers={"prompts": prompts},
    )
    found = read(folder)
    assert (found.pooling, found.is_normalised) == ("cls", False)
    assert (found.query_prefix, found.passage_prefix) == ("query: ", "doc: ")
    assert found.max_len == 300  # the tokenizer's
    write(config_sentence_transformers={"prompts": {"query": None, "corpus": "c"}})
    found = read(folder)
    assert (found.query_prefix, found.passage_prefix) == ("", "c")


def test_options_come_first(write):
    folder = write(
        modules=MODULES,
        **{"1_Pooling__config": {"pooling_mode": "max"}},
        config_sentence_transformers={"prompts": {"query": "q: ", "passage": "p: "}},
    )
    given = EncoderOptions(
        pooling="cls",
        is_normalised=False,
        query_prefix="",
        passage_prefix="x ",
        dtype="bfloat16",
    )
    names = ["pooling", "is_normalised", "query_prefix", "passage_prefix", "dtype"]
    assert given.given == names
    found = read_settings(folder, given, max_positions=512, tokenizer_len=10**30)
    assert found == EncoderSettings(
        pooling="cls",
        is_normalised=False,
        query_prefix="",
        passage_prefix="x ",
        max_len=512,
        dtype="bfloat16",
    )


def test_missing_settings_are_not_guessed(write):
    folder = write()
    with pytest.raises(
        ValueError, match="no modules.json.*give --pooling.*--normalize"
    ):
        read(folder)
    with pytest.raises(ValueError, match="no modules.json"):
        read(folder, pooling="mean")
    with pytest.raises(ValueError, match="no modules.json"):
        read(folder, is_normalised=True)
    found = read(folder, pooling="mean", is_normalised=True)
    assert (found.query_prefix, found.passage_prefix) == ("", "")
    with pytest.raises(ValueError, match="pooling 'max' is not .* one of mean, cls"):
        read(folder, pooling="max", is_normalised=True)
    with pytest.raises(ValueError, match="dtype 'int8' is not supported"):
        read(folder, pooling="cls", is_normalised=True, dtype="int8")
    write(config_sentence_transformers={"prompts": {"retrieval": "r: "}})
    given = {"pooling": "cls", "is_normalised": True}
    with pytest.raises(
        ValueError, match=r"named query, found \['retrieval'\]: give --query-prefix"
    ):
        read(folder, **given)
    with pytest.raises(ValueError, match="document or passage .*give --passage-prefix"):
        read(folder, **given, query_prefix="")
    assert read(folder, **given, query_prefix="", passage_prefix="").max_len == 300


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules": "[{"}, "modules.json: not JSON"),
        ({"modules": {"a": 1}}, "modules.json: expected a list of modules"),
        ({"modules": [{"path": ""}]}, "modules.json: expected a list of modules"),
        (
            {"modules": [*MODULES[:2], {"path": "2_Dense", "type": OLD + "Dense"}]},
            "'Dense'. are not supported",
        ),
        ({"modules": MODULES}, "1_Pooling/config.json is missing: give --pooling"),
        (
            {"1_Pooling__config": {"pooling_mode_max_tokens": True}},
            "pooling 'pooling_mode_max_tokens' is not supported; expected .* mean, cls",
        ),
        ({"1_Pooling__config": {"pooling_mode": ["mean", "cls"]}}, "pooling .'mean', "),
        ({"1_Pooling__config": {}}, r"pooling \[\] is not supported"),
        (
            {"1_Pooling__config": {"pooling_mode": "mean", "include_prompt": False}},
            "include_prompt false is not supported",
        ),
        ({"1_Pooling__config": []}, "1_Pooling/config.json: expected a JSON object"),
        ({"sentence_bert_config": {"do_lower_case": True}}, "do_lower_case is not"),
        (
            {"sentence_bert_config": {"max_seq_length": 513}},
            "sentence_bert_config.json: max_seq_length must be in 3..512 .* got 513",
        ),
        ({"sentence_bert_config": {"max_seq_length": "9"}}, "must be in .* got '9'"),
        ({"config_sentence_transformers": "{"}, "transformers.json: not JSON"),
    ],
)
def test_what_is_not_supported_is_named_with_its_file(write, files, message):
    pooling = {"1_Pooling__config": {"pooling_mode": "mean"}}
    if files.get("modules") == MODULES:
        pooling = {}
    folder = write(**({"modules": MODULES} | pooling | files))
    with pytest.raises(ValueError, match=message) as caught:
        read(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
