"""A published checkpoint generates its published story."""

import re
import struct
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxsearch.bench.scripted_sampler import LatentIndex, ScriptedProtocol
from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Transformer
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.episode import Sampler
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.rollouts.stop import stop_table
from jaxsearch.search.index import Hit
from jaxsearch.search.passages import Passage
from tests.environments import search_environment
from tests.hf_folders import read_here, write_folder
from tests.protocols import changed

FOLDER = Path(__file__).resolve().parents[3] / "shared/data/checkpoints/stories260K"
BEGIN_ID = 1  # stands before a story, so it also ends one
FIRST_JOINED_ID = 259  # after three special pieces and 256 bytes


def read_checkpoint(path, folder):
    """Reads the policy of a llama2.c file (seven sizes, then float32) through a folder.

    Its rotary pairs are rows (2i, 2i + 1) of a head, ours (i, i + H / 2).
    """
    raw = path.read_bytes()
    D, F, L, N, K, V, max_len = struct.unpack("<7i", raw[:28])
    H = D // N
    architecture = Architecture(
        vocab_size=V,
        width=D,
        mlp_width=F,
        num_layers=L,
        num_heads=N,
        num_kv_heads=K,
        head_width=H,
        norm_eps=1e-5,
        has_qkv_bias=False,
    )
    sizes = {
        "model.embed_tokens.weight": (V, D),
        "input_layernorm.weight": (L, D),
        "self_attn.q_proj.weight": (L, N * H, D),
        "self_attn.k_proj.weight": (L, K * H, D),
        "self_attn.v_proj.weight": (L, K * H, D),
        "self_attn.o_proj.weight": (L, D, N * H),
        "post_attention_layernorm.weight": (L, D),
        "mlp.gate_proj.weight": (L, F, D),
        "mlp.down_proj.weight": (L, D, F),
        "mlp.up_proj.weight": (L, F, D),
        "model.norm.weight": (D,),
    }
    rest = np.frombuffer(raw, "<f4", offset=28)
    tensors = {}
    for name, shape in sizes.items():
        array, rest = np.split(rest, [np.prod(shape)])
        tensors[name] = array.reshape(shape)
    assert rest.size == max_len * H  # the rest is a table of rotary angles
    for name in ("self_attn.q_proj.weight", "self_attn.k_proj.weight"):
        pairs = tensors[name].reshape(L, -1, H // 2, 2, D)
        tensors[name] = pairs.swapaxes(2, 3).reshape(L, -1, D)

    named = {n: a for n, a in tensors.items() if n.startswith("model.")}
    for name in tensors.keys() - named:
        for layer, array in enumerate(tensors[name]):
            named[f"model.layers.{layer}.{name}"] = array
    write_folder(folder, architecture, named)
    transformer = Transformer(architecture=architecture)
    return transformer, read_here(folder, transformer)


def read_tokenizer(path):
    """The vocabulary of a llama2.c file: a score, a length and bytes for each piece.

    The neighbouring pieces with the highest-scoring merge are merged first, like merges
    in order.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers
    from transformers import PreTrainedTokenizerFast

    raw, at = path.read_bytes(), 4
    scores = {}
    while at < len(raw):
        score, num_bytes = struct.unpack_from("<fi", raw, at)
        at += 8 + num_bytes
        scores[raw[at - num_bytes : at].decode().strip("\n").replace(" ", "▁")] = score
    joined = sorted(list(scores)[FIRST_JOINED_ID:], key=scores.get, reverse=True)
    merges = [
        (piece[:cut], piece[cut:])
        for piece in joined
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    backend = Backend(
        models.BPE(
            {piece: i for i, piece in enumerate(scores)},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    special = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **special))


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """The checkpoint, its tokenizer, and the story published on its page."""
    if not FOLDER.is_dir():
        pytest.skip(f"needs the checkpoint in {FOLDER}")
    folder = tmp_path_factory.mktemp("stories")
    transformer, params = read_checkpoint(FOLDER / "stories260K.bin", folder)
    page = (FOLDER / "stories260K.md").read_text()
    return SimpleNamespace(
        transformer=transformer,
        params=jax.jit(transformer.for_rollouts)(params),
        tokenizer=read_tokenizer(FOLDER / "tok512.bin"),
        story=re.search(r"-t 0\.0\n(.*?)\n```", page, re.DOTALL)[1],
    )


def tell(kit, prompts, index, *, stop_tag):
    """One greedy rollout per prompt, up to the 256 published tokens."""
    budgets = Budgets(
        num_slots=2,
        max_len=257,
        max_prompt_len=64,
        max_turn_len=256,
        max_observation_len=40,
        max_calls=99,
    )
    protocol = changed(
        ScriptedProtocol(),
        stop_tags=(stop_tag,),
        render=lambda passages: "".join(p.contents for p in passages),
        default_prompt=lambda question: f"<s>{question}",
    )
    programs = Programs(
        transformer=kit.transformer,
        end_ids=(BEGIN_ID,),
        max_turn_len=budgets.max_turn_len,
        truncation=TopKTopP(),
        seed=0,
    )
    vocab_size = kit.transformer.architecture.vocab_size
    table = stop_table(kit.tokenizer.id_bytes, protocol.stop_tags, vocab_size)
    environment = search_environment(
        index,
        protocol,
        kit.tokenizer,
        max_observation_len=budgets.max_observation_len,
    )
    questions = [
        (i, Question(id=str(i), question=prompt, golden_answers=()))
        for i, prompt in enumerate(prompts)
    ]
    done, _ = Sampler(programs, budgets, protocol, kit.tokenizer, table).run(
        kit.params, questions, environment, group_size=1, stage=0, temperature=0.0
    )
    return done


class NextSentence:
    """Returns the sentence of a story that follows the query."""

    def __init__(self, story):
        self.rest = story
        self.num_told = 0

    def search(self, queries, k):
        (sentence,) = queries
        assert self.rest.startswith(sentence)
        rest = self.rest.removeprefix(sentence)
        told, stop, self.rest = rest.partition(".")
        self.num_told += 1
        passage = Passage(id=str(self.num_told), contents=told + stop)
        return [[Hit(passage=passage, score=1.0)]]


def test_greedy_tells_the_published_story(kit):
    """From an empty prompt and from prefixes of increasing length, in two slots."""
    words = kit.story.split(" ")
    prompts = ["".join(f" {word}" for word in words[:n]) for n in (0, 1, 4, 11, 32)]
    done = tell(kit, prompts, LatentIndex(1, 0.0), stop_tag="~")
    assert len({t.prompt_len for t in done}) == len(prompts)
    for trajectory in done:
        assert not trajectory.tool_calls and len(trajectory.tokens) == 257
        assert kit.tokenizer.decode(trajectory.tokens[1:]) == f" {kit.story}"


def test_greedy_goes_on_after_every_second_sentence(kit):
    """The search returns the sentence that the policy would have written itself."""
    index = NextSentence(f" {kit.story}")
    (told,) = tell(kit, [""], index, stop_tag=".")
    assert len(told.tool_calls) >= 5
    assert f" {kit.story}".startswith(kit.tokenizer.decode(told.tokens[1:]))
    # The rollout ends before the first observation that would leave no room for a turn.
    assert len(told.tokens) > 200
