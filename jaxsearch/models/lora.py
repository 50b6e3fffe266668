"""LoRA's configuration: the rank, the scale and the linear maps to train."""

import dataclasses
import math
import re

from jaxsearch.models.alternatives import alternatives


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearMap:
    """A linear map of every block.

    Attributes:
      path: path of its weight [L *O *I] under `blocks`.
      name: name in a layer of a Hugging Face model.
      num_outputs: number of axes in *O.
    """

    path: tuple[str, str]
    name: str
    num_outputs: int = 1


Maps = tuple[LinearMap, ...]
MAPS: Maps = (
    LinearMap(path=("projections", "query"), name="self_attn.q_proj", num_outputs=2),
    LinearMap(path=("projections", "key"), name="self_attn.k_proj", num_outputs=2),
    LinearMap(path=("projections", "value"), name="self_attn.v_proj", num_outputs=2),
    LinearMap(path=("projections", "out"), name="self_attn.o_proj"),
    LinearMap(path=("mlp", "gate"), name="mlp.gate_proj"),
    LinearMap(path=("mlp", "up"), name="mlp.up_proj"),
    LinearMap(path=("mlp", "down"), name="mlp.down_proj"),
)
# Linear maps outside the blocks, which LoRA does not train here.
_NOT_TRAINED = ("lm_head", "model.embed_tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Training of low-rank updates of linear maps, with all other weights frozen."""

    rank: int = 0
    """Rank of the updates. 0 means no LoRA: every parameter is trained, and alpha and
    targets have no effect."""
    alpha: float = 32.0
    """An update is scaled by alpha / rank."""
    targets: str = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    """Regular expression that selects linear maps of the blocks. It must match the
    whole Hugging Face name (`model.layers.0.self_attn.q_proj`) or everything after one
    of its dots. A map must be selected in all layers or in none, and each alternative
    (between two |) must select a map."""

    def __post_init__(self):
        if self.rank < 0:
            raise ValueError(
                f"lora.rank must be at least 1, or 0 for no LoRA, got {self.rank}"
            )
        if not 0 < self.alpha < math.inf:
            raise ValueError(
                f"lora.alpha must be positive and finite, got {self.alpha}"
            )

    def maps(self, num_layers: int) -> Maps:
        """The maps that `targets` selects in a network of `num_layers` layers.

        Raises:
          ValueError: if `targets` is not a regular expression, it or one of its
            alternatives selects no map, or it selects a map in only some layers.
        """
        if not self.rank:
            return ()
        known = "known maps: " + ", ".join(m.name.split(".")[-1] for m in MAPS)
        try:
            pattern = re.compile(self.targets)
        except re.error as error:
            raise ValueError(
                f"lora.targets {self.targets!r:.500} is not a regular expression: "
                f"{error}; {known}"
            ) from None
        self._check_alternatives(num_layers, known)
        selected = []
        for one in MAPS:
            names = _names(one, num_layers)
            excluded = [name for name in names if not _matches(pattern, name)]
            if not excluded:
                selected.append(one)
            elif len(excluded) < num_layers:
                raise ValueError(
                    f"lora.targets {self.targets!r:.500} selects {one.name} in some "
                    f"layers but not {excluded[0]}; select a map in all layers or in "
                    "none"
                )
        if not selected:
            raise ValueError(
                f"lora.targets {self.targets!r:.500} does not match the whole name of "
                f"any linear map{_outside(pattern)}; {known}"
            )
        return tuple(selected)

    def _check_alternatives(self, num_layers: int, known: str) -> None:
        """Checks that each alternative of `targets` selects a map in some layer.

        Raises:
          ValueError: naming the first alternative that does not.
        """
        names = [name for one in MAPS for name in _names(one, num_layers)]
        for alternative, alone in alternatives(self.targets):
            try:
                pattern = re.compile(alone)
            except re.error:  # it refers to a group of another alternative
                continue
            if not any(_matches(pattern, name) for name in names):
                raise ValueError(
                    f"the alternative {alternative!r:.500} in lora.targets "
                    f"{self.targets!r:.500} does not match the whole name of any "
                    f"linear map{_outside(pattern)}; {known}"
                )

    @property
    def scale(self) -> float:
        """The factor that an update is multiplied by."""
        return self.alpha / self.rank


def _names(one: LinearMap, num_layers: int) -> list[str]:
    return [f"model.layers.{i}.{one.name}" for i in range(num_layers)]


def _outside(pattern: re.Pattern) -> str:
    """Says which maps outside the blocks a pattern selects; "" for none."""
    found = [name for name in _NOT_TRAINED if _matches(pattern, name)]
    return f" ({' and '.join(found)} cannot have adapters)" if found else ""


def _matches(pattern: re.Pattern, name: str) -> bool:
    parts = name.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts)))
    return any(pattern.fullmatch(end) for end in ends)
