"""The maps that an expression selects, with PEFT's names."""

import math

import numpy as np
import pytest

from jaxsearch.models.convert import to_hf
from jaxsearch.models.lora import MAPS, LoRAConfig
from jaxsearch.models.transformer import Transformer
from tests.models.test_transformer import LLAMA, make

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (LoRAConfig().targets, ATTENTION + MLP),
        (".*", ATTENTION + MLP),
        ("q_proj|v_proj", ["q_proj", "v_proj"]),
        ("[qkvo]_proj", ATTENTION),
        ("mlp.*", MLP),
        (r"self_attn\.q_proj", ["q_proj"]),
        (r".*\.(up|down)_proj", ["up_proj", "down_proj"]),
        (r"model\.layers\.\d+\.mlp\.gate_proj", ["gate_proj"]),
        (r"(self_attn|mlp)\.(q|k|up)_proj", ["q_proj", "k_proj", "up_proj"]),
        (
            r"((q|k)_proj|mlp\.(up|down).*)",
            ["q_proj", "k_proj", "up_proj", "down_proj"],
        ),
        (r"(?i)Q_PROJ|[kv|]_PROJ", ["q_proj", "k_proj", "v_proj"]),
        (r"(?P<a>q|k)_proj|[(]?v_proj", ["q_proj", "k_proj", "v_proj"]),
        (r"(?!lm_head|q|k)\w+_proj", ["v_proj", "o_proj"] + MLP),
        (r"(?:self_attn\.|)q_proj", ["q_proj"]),
        # The second alternative refers to a group of the first.
        (r"(q|k)_proj|v_proj(?(1)x|)", ["q_proj", "k_proj", "v_proj"]),
    ],
)
def test_an_expression_selects_maps_by_the_end_of_their_names(targets, names):
    maps = LoRAConfig(rank=1, targets=targets).maps(12)
    assert [one.name.split(".")[-1] for one in maps] == names


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("(q_proj", r"'\(q_proj' is not a regular expression: .*known maps: q_proj, "),
        (
            "proj",
            "of any linear map; known maps: q_proj, k_proj",
        ),
        ("q_pro", "does not match the whole name of any"),
        ("xq_proj", "does not match the whole name of any"),
        ("", "does not match the whole name of any"),
        ("lm_head", r"any linear map \(lm_head cannot have adapters\); known"),
        (
            "lm_head|q_proj",
            r"the alternative 'lm_head' in .*\(lm_head cannot have",
        ),
        (
            "q_proj|.*embed_tokens",
            r"'.\*embed_tokens' in .*\(model.embed_tokens cannot",
        ),
        ("q_prj|k_proj", "the alternative 'q_prj' in .* whole name of any .*; known"),
        ("k_proj|(?:q|w)_proj|v_proj", "the alternative 'w' in "),
        (r".*\.(up|dwn)_proj", "the alternative 'dwn' in "),
        (r"lm_(head|tail)|q_proj", "the alternative 'head' in "),
        (r"(?i)Q_PROJ|K_PRO", "the alternative 'K_PRO' in "),
        (r"^q_proj$|^k_pro", r"the alternative '\^k_pro' in "),
        (r"q_proj|", "the alternative '' in "),
        (r"model\.layers\.(\d|1[01]|2\d)\..*", r"the alternative '2\\\\d' in "),
        (
            r"model\.layers\.[01]\.mlp\.up_proj",
            r"selects mlp.up_proj in some layers but not model.layers.2.mlp.up_proj",
        ),
    ],
)
def test_an_expression_that_selects_nothing_usable_is_refused(targets, message):
    lora = LoRAConfig(rank=1, targets=targets)
    with pytest.raises(ValueError, match=message):
        lora.maps(12)


def test_a_network_says_what_does_not_fit_when_it_is_made():
    with pytest.raises(ValueError, match="does not match the whole name"):
        Transformer(architecture=LLAMA, lora=LoRAConfig(rank=1, targets="qproj"))


def test_off_there_is_nothing_to_select():
    assert LoRAConfig(rank=0, targets="(").maps(12) == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": -1}, "lora.rank must be at least 1, or 0 for no LoRA, got -1"),
        ({"alpha": 0.0}, "lora.alpha must be positive and finite, got 0.0"),
        ({"alpha": float("inf")}, "lora.alpha must be positive and finite, got inf"),
        ({"alpha": float("nan")}, "lora.alpha must be positive and finite, got nan"),
    ],
)
def test_values_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        LoRAConfig(**values)


def test_names_and_paths_are_those_of_the_weights_in_files():
    transformer, params = make(LLAMA)
    tensors = dict(to_hf(params, transformer.architecture))
    for one in MAPS:
        part, name = one.path
        weight = params["blocks"][part][name][1]
        num_outputs = math.prod(weight.shape[: one.num_outputs])
        np.testing.assert_array_equal(
            tensors[f"model.layers.1.{one.name}.weight"],
            weight.reshape(num_outputs, -1),
        )
