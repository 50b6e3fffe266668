"""Policies, meshes, retrievers and questions: what is accepted, and what is refused."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxsearch
from jaxsearch import MeshShape, ModelConfig, Passage, Question
from jaxsearch.api.questions import as_questions
from jaxsearch.api.retrieval import _as_passages
from tests.api.conftest import ONE_HOP, PASSAGES

SIZES = ModelConfig(
    width=32, mlp_width=64, num_layers=1, tokenizer="jaxsearch:quickstart"
)


def leaves(policy):
    return jax.tree.leaves(policy.params)


def test_a_saved_policy_is_the_same(policy, tmp_path):
    policy.save(tmp_path / "saved")
    again = jaxsearch.load_policy(tmp_path / "saved")
    assert again.architecture == policy.architecture
    for one, other in zip(leaves(again), leaves(policy), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="not empty"):
        policy.save(tmp_path / "saved")


def test_random_weights_depend_on_the_seed():
    first, same, other = (jaxsearch.load_policy(SIZES, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.params["embedding"], same.params["embedding"])
    assert (first.params["embedding"] != other.params["embedding"]).any()


def test_an_architecture_has_the_weights_of_its_sizes(policy):
    architecture = dataclasses.replace(policy.architecture, num_layers=2)
    made = jaxsearch.load_policy(architecture, tokenizer=policy.tokenizer)
    assert made.tokenizer is policy.tokenizer
    sizes = sum(array.size for array in leaves(made))
    assert sizes == architecture.num_parameters
    small = dataclasses.replace(architecture, vocab_size=10)
    with pytest.raises(ValueError, match="vocab_size is only 10; raise it"):
        jaxsearch.load_policy(small, tokenizer=policy.tokenizer)


def test_reprs_are_one_short_line(policy, retriever):
    task = jaxsearch.load_task("search_r1")
    shown = [repr(policy), repr(retriever), repr(jaxsearch.load_policy(SIZES))]
    assert all(len(one) < 160 and "\n" not in one for one in shown), shown
    assert "571,392 parameters in 3 layers" in shown[0]
    assert "2 passages" in shown[1]
    assert task.name == "search_r1"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("/nowhere/model", {}, "/nowhere/model does not exist"),
        ("./runs/none", {}, "./runs/none does not exist"),
        (ModelConfig(width=32), {}, "need a tokenizer: give tokenizer="),
        ("jaxsearch:quickstart", {"checkpoint": "best"}, "not the folder of a run"),
        (SIZES, {"mesh": MeshShape(fsdp=16)}, "needs 16 devices, but there are 8"),
        (SIZES, {"mesh": MeshShape(data=3, fsdp=3)}, "9 devices, but there are 8"),
    ],
)
def test_policies_that_cannot_be_loaded(source, options, message):
    with pytest.raises(ValueError, match=message):
        jaxsearch.load_policy(source, **options)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        jaxsearch.load_policy(tmp_path)


@pytest.mark.parametrize(
    "mesh",
    [
        MeshShape(data=2, fsdp=2, tensor=2),
        MeshShape(),
        MeshShape(data=1, fsdp=2),
        jax.make_mesh((4, 2), ("tensor", "fsdp")),
        jax.make_mesh((2,), ("data",), devices=jax.devices()[6:]),
    ],
    ids=str,
)
def test_sharding_moves_the_parameters_and_keeps_their_values(policy, mesh):
    sharded = jaxsearch.shard(policy, mesh)
    assert sharded.mesh.axis_names == ("data", "fsdp", "tensor")
    for before, after in zip(leaves(policy), leaves(sharded), strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.sharding.mesh == sharded.mesh
        assert len(before.devices()) == 1
    if not isinstance(mesh, MeshShape):
        named = zip(*sharded.mesh.devices.nonzero(), strict=True)
        for data, fsdp, tensor in named:
            at = {"data": data, "fsdp": fsdp, "tensor": tensor}
            there = mesh.devices[tuple(at[axis] for axis in mesh.axis_names)]
            assert sharded.mesh.devices[data, fsdp, tensor] == there
        assert all(sharded.mesh.shape[axis] == mesh.shape[axis] for axis in mesh.shape)
    shards = sharded.params["embedding"].sharding.shard_shape((304, 128))
    sizes = sharded.mesh.shape
    assert shards == (304 // sizes["tensor"], 128 // sizes["fsdp"])


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (MeshShape(data=1, fsdp=9), "needs 9 devices, but there are 8"),
        (MeshShape(data=3, fsdp=1, tensor=3), "needs 9 devices"),
        (jax.make_mesh((8,), ("model",)), r"axes data, fsdp, tensor, got \['model'\]"),
        (MeshShape(data=1, fsdp=1, tensor=8), "not divisible by the 8 devices"),
    ],
    ids=str,
)
def test_meshes_that_cannot_hold_a_policy(policy, mesh, message):
    with pytest.raises(ValueError, match=message):
        jaxsearch.shard(policy, mesh)


def test_retrievers_of_texts_passages_and_files(tmp_path, retriever):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "a", "contents": "Parruk\\nParruk was born in Zegbol."}\n')
    for source in (
        ["Parruk was born in Zegbol."],
        [Passage(id="a", contents="Parruk\nParruk was born in Zegbol.")],
        path,
        str(path),
    ):
        made = jaxsearch.load_retriever(source)
        [[hit]] = made.search(["Zegbol"], 1)
        assert hit.passage.text == "Parruk was born in Zegbol."
    assert jaxsearch.load_retriever(retriever) is retriever


def test_a_retriever_of_an_index_folder(tmp_path, retriever):
    retriever.save(tmp_path / "index")
    [[hit]] = jaxsearch.load_retriever(tmp_path / "index").search(["Vaznuk"], 1)
    assert hit.passage.contents == PASSAGES[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no.jsonl", "'no.jsonl' is neither a corpus file nor an index folder"),
        ("Parruk was born.", "give a single text as a list"),
        ([], "at least one passage, got none"),
        ([Passage(id="0", contents="a"), Passage(id="0", contents="b")], "distinct"),
    ],
)
def test_retrievers_that_cannot_be_made(source, message):
    with pytest.raises(ValueError, match=message):
        jaxsearch.load_retriever(source)


def test_a_folder_that_is_no_index_is_refused(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        jaxsearch.load_retriever(tmp_path)


def test_a_passage_of_another_type_is_named():
    with pytest.raises(ValueError, match="got 3 at position 1"):
        _as_passages(["a", 3])


def test_questions_are_texts_pairs_or_questions():
    whole = Question(id="x", question="Where?", golden_answers=("here", "there"))
    pair = ("Where?", ["here", "there"])
    found = as_questions(["Where?", ("Where?", "here"), pair, whole])
    assert [q.golden_answers for q in found] == [
        (),
        ("here",),
        *[("here", "there")] * 2,
    ]
    assert [q.id for q in found] == ["0", "1", "2", "x"]
    assert as_questions("Where?") == found[:1]
    assert as_questions(whole) == [whole]
    [alone] = as_questions(pair)
    assert alone.golden_answers == ("here", "there")


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "at least one question, got none"),
        ("  ", "got '  ' at position 0"),
        (["Where?", ""], "got '' at position 1"),
        (["Where?"], "'Where\\?' has no golden answer"),
        ([ONE_HOP, ("Who?", ())], "'Who\\?' has no golden answer"),
    ],
)
def test_questions_that_are_refused(questions, message):
    with pytest.raises(ValueError, match=message):
        as_questions(questions, need_answers=True)


def test_instructions_are_the_system_message_or_stand_before_the_question():
    task = jaxsearch.load_task("search_r1", instructions="Be brief.")
    protocol = task.protocol
    assert protocol.prompt("Who?") == "Be brief.\n\nQuestion: Who?\nReply:"
    assert protocol.messages("Who?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
    ]
    assert jaxsearch.load_task("search_r1").protocol.template is None
    with pytest.raises(ValueError, match="the question follows them by itself"):
        jaxsearch.load_task("search_r1", instructions="Answer {question}")


def test_a_dataset_that_does_not_exist_has_a_suggestion():
    with pytest.raises(ValueError, match="did you mean jaxsearch:quickstart"):
        jaxsearch.load_dataset("jaxsearch:quickstrat")


def test_the_quickstart_s_world_has_passages_for_its_questions():
    data = jaxsearch.load_dataset("jaxsearch:quickstart")
    titles = {passage.title for passage in data.heldout_passages}
    steps = data.heldout[0].metadata["steps"]
    assert len(data.heldout) == 200 and {step["query"] for step in steps} <= titles


def test_tokenizers_are_imported_silently():
    """Transformers would say that PyTorch is not installed, where it is not."""
    program = "import jaxsearch.data.saved_tokenizer"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
