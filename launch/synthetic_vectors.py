"""Writes vectors like those of a text encoder, with short texts: a large corpus.

    python launch/synthetic_vectors.py 2000000 768 DIR

writes DIR/passages.jsonl and DIR/vectors.npy (float16, rows of length 1), the same ones
on every machine. Then

    jaxsearch index build --corpus DIR/passages.jsonl --vectors DIR/vectors.npy \
      --encoder none --out DIR/index

The recipe: texts have topics, 100 of them each on average. A topic is a point of 64
normal numbers, and a text differs from it by 0.6 times such numbers: vectors of
encoders vary in far fewer directions than they have dimensions. A fixed random matrix
turns the 64 numbers into the vector, normal noise with a tenth of its length is added,
and the vector is scaled to length 1.
"""

import argparse
import json
from pathlib import Path

import numpy as np

_LATENT = 64
_TEXTS_PER_TOPIC = 100
_SPREAD, _NOISE = 0.6, 0.1
_BLOCK = 10_000  # rows that are drawn together, with a seed of their own
_WORDS = "river city king battle film song bridge school island novel painter law"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("num", type=int, help="number of vectors")
    parser.add_argument("dims", type=int, help="their width")
    parser.add_argument("folder", type=Path, help="folder to write")
    args = parser.parse_args()
    if args.num < 1 or args.dims < 1:
        parser.error(f"expected positive numbers, got {args.num} and {args.dims}")
    args.folder.mkdir(parents=True, exist_ok=True)
    write_vectors(args.folder / "vectors.npy", args.num, args.dims)
    write_texts(args.folder / "passages.jsonl", args.num)


def write_vectors(path: Path, num: int, dims: int) -> None:
    """Writes the vectors block by block."""
    rng = np.random.default_rng(0)
    num_topics = max(1, num // _TEXTS_PER_TOPIC)
    topics = rng.standard_normal((num_topics, _LATENT), np.float32)
    matrix = rng.standard_normal((_LATENT, dims), np.float32) / np.sqrt(dims)
    header = {"descr": "<f2", "fortran_order": False, "shape": (num, dims)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, num))
            rng = np.random.default_rng([1, start])
            own = topics[_topic(rows, num_topics)]
            spread = rng.standard_normal((len(rows), _LATENT), np.float32)
            vectors = (own + _SPREAD * spread) @ matrix
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            noise = rng.standard_normal(vectors.shape, np.float32)
            vectors += _NOISE / np.sqrt(dims) * noise
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            file.write(vectors.astype("<f2").data)


def write_texts(path: Path, num: int) -> None:
    """Writes a title and a line of text for each vector."""
    words = _WORDS.split()
    topics = _topic(np.arange(num), max(1, num // _TEXTS_PER_TOPIC)).tolist()
    with path.open("w", encoding="utf-8") as file:
        for number, topic in enumerate(topics):
            title = f"{words[topic % len(words)].title()} {topic}, text {number}"
            text = (
                f"The {words[number % len(words)]} of topic {topic} is text {number}."
            )
            row = {"id": str(number), "title": title, "text": text}
            file.write(json.dumps(row) + "\n")


def _topic(rows: np.ndarray, num_topics: int) -> np.ndarray:
    """The topic of each text, spread over the corpus by multiplicative hashing."""
    return (rows.astype(np.uint64) * np.uint64(2654435761) >> np.uint64(7)) % np.uint64(
        num_topics
    )


if __name__ == "__main__":
    main()
