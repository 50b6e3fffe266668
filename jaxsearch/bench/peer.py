"""Another engine in an environment of its own, run a workload at a time."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

_SCRIPTS = Path(__file__).parent / "peers"
# Peers by what they can do, each with its script.
SAMPLERS = {"transformers": "transformers_peer.py", "tunix": "tunix_peer.py"}
ENCODERS = {"sentence-transformers": "sentence_transformers_peer.py"}
TRAINERS = {"transformers": "transformers_update_peer.py"}


class Measured(NamedTuple):
    """One run of an engine."""

    seconds: float
    policy_tokens: int
    said: dict[str, Any]  # all of its answer


class Peer:
    """A process of the peer's Python that answers every request with one run.

    Args:
      workload: what its script is given: a file, or the folder of a model.
      known: the peers that can do this kind of work, and their scripts.

    Errors: ValueError for an unknown peer or no such Python; RuntimeError, with the
    end of what it wrote, when the process dies.
    """

    def __init__(
        self,
        name: str,
        python: str,
        workload: Path,
        known: Mapping[str, str] = SAMPLERS,
    ):
        if name not in known:
            raise ValueError(f"unknown peer {name!r}; known: {', '.join(known)}")
        if not Path(python).is_file():
            raise ValueError(
                f"--peer-python {python} is not a file; name the Python of an "
                f"environment in which {name} is installed"
            )
        self._name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the peer
        self._process = subprocess.Popen(
            [python, str(_SCRIPTS / known[name]), str(workload)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._answer()

    def run(self) -> Measured:
        """Runs the workload once; the process sleeps otherwise."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("run\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        answer = self._answer()
        return Measured(answer["seconds"], answer["tokens"], answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            pipe.close()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # A peer's libraries may print before it does.
            if line.startswith("{"):
                return json.loads(line)
        self._fail()

    def _fail(self) -> NoReturn:
        self._log.seek(0)
        ending = " ".join(self._log.read().split())[-400:]
        self.close()
        raise RuntimeError(f"the {self._name} peer stopped: ...{ending}")
