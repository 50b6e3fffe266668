"""The papers' question sets: their locations, licences and citations.

Files and splits are those of FlashRAG's data repository on the Hugging Face Hub, which
stores every set as FOLDER/SPLIT.jsonl. The repository is published under CC BY-SA 4.0;
`licence` is the licence that the authors of a set state.
"""

import dataclasses
import difflib

FLASHRAG = "RUC-NLPIR/FlashRAG_datasets"


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A published set of questions.

    Attributes:
      name: its name in this package.
      title: its name in the papers.
      folder: its folder in FlashRAG's repository, also accepted as a name.
      splits: its splits in the repository.
      licence: the licence stated by its authors.
      citation: the paper to cite.
      homepage: the authors' page.
    """

    name: str
    title: str
    folder: str
    splits: tuple[str, ...]
    licence: str
    citation: str
    homepage: str

    def address(self, split: str) -> str:
        """The address of the file of a split on the Hub."""
        return f"hf://{FLASHRAG}/{self.folder}/{split}.jsonl"


KNOWN_SETS = (
    KnownSet(
        name="hotpotqa",
        title="HotpotQA",
        folder="hotpotqa",
        splits=("train", "dev"),
        licence="CC BY-SA 4.0",
        citation="Yang et al., HotpotQA: A Dataset for Diverse, Explainable Multi-hop "
        "Question Answering, EMNLP 2018, arXiv:1809.09600",
        homepage="https://hotpotqa.github.io",
    ),
    KnownSet(
        name="2wiki",
        title="2WikiMultiHopQA",
        folder="2wikimultihopqa",
        splits=("train", "dev"),
        licence="Apache-2.0",
        citation="Ho et al., Constructing A Multi-hop QA Dataset for Comprehensive "
        "Evaluation of Reasoning Steps, COLING 2020, arXiv:2011.01060",
        homepage="https://github.com/Alab-NII/2wikimultihop",
    ),
    KnownSet(
        name="musique",
        title="MuSiQue",
        folder="musique",
        splits=("train", "dev"),
        licence="CC BY 4.0",
        citation="Trivedi et al., MuSiQue: Multihop Questions via Single-hop Question "
        "Composition, TACL 2022, arXiv:2108.00573",
        homepage="https://github.com/StonyBrookNLP/musique",
    ),
    KnownSet(
        name="bamboogle",
        title="Bamboogle",
        folder="bamboogle",
        splits=("test",),
        licence="not known; FlashRAG's copy: CC BY-SA 4.0",
        citation="Press et al., Measuring and Narrowing the Compositionality Gap in "
        "Language Models, Findings of EMNLP 2023, arXiv:2210.03350",
        homepage="https://github.com/ofirpress/self-ask",
    ),
    KnownSet(
        name="nq",
        title="NQ (open)",
        folder="nq",
        splits=("train", "dev", "test"),
        licence="CC BY-SA 3.0",
        citation="Kwiatkowski et al., Natural Questions: A Benchmark for Question "
        "Answering Research, TACL 2019; Lee et al., Latent Retrieval for Weakly "
        "Supervised Open Domain Question Answering, ACL 2019, arXiv:1906.00300",
        homepage="https://ai.google.com/research/NaturalQuestions",
    ),
    KnownSet(
        name="triviaqa",
        title="TriviaQA",
        folder="triviaqa",
        splits=("train", "dev", "test"),
        licence="not stated; FlashRAG's copy: CC BY-SA 4.0",
        citation="Joshi et al., TriviaQA: A Large Scale Distantly Supervised Challenge "
        "Dataset for Reading Comprehension, ACL 2017, arXiv:1705.03551",
        homepage="https://nlp.cs.washington.edu/triviaqa/",
    ),
    KnownSet(
        name="popqa",
        title="PopQA",
        folder="popqa",
        splits=("test",),
        licence="MIT",
        citation="Mallen et al., When Not to Trust Language Models: Investigating "
        "Effectiveness of Parametric and Non-Parametric Memories, ACL 2023, "
        "arXiv:2212.10511",
        homepage="https://github.com/AlexTMallen/adaptive-retrieval",
    ),
)


def known_set(name: str) -> KnownSet | None:
    """The known set with a name, or with a folder in FlashRAG's repository."""
    name = name.lower()
    return next((one for one in KNOWN_SETS if name in (one.name, one.folder)), None)


def near_names(name: str, names: list[str]) -> str:
    """A hint such as " (near it: nq)"; "" if no name is near."""
    near = difflib.get_close_matches(name.lower(), names)
    return f" (near it: {', '.join(near)})" if near else ""
