"""Peer: sentence-transformers on an encoding workload; runs in a separate Python."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer


def main(folder):
    workload = json.loads((folder / "workload.json").read_text())
    texts = json.loads((folder / "texts.json").read_text())
    model = SentenceTransformer(
        str(folder), model_kwargs={"dtype": workload["dtype"]}
    ).eval()
    print(json.dumps({"peer": "sentence-transformers"}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        vectors = model.encode(texts, batch_size=workload["batch_size"])
        seconds = time.perf_counter() - started
        np.save(folder / "vectors.npy", np.asarray(vectors, np.float32))
        print(json.dumps({"seconds": seconds, "tokens": len(texts)}), flush=True)


main(Path(sys.argv[1]))
