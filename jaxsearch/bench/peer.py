"""Peers: other engines, each in a separate Python environment and process."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

_SCRIPTS = Path(__file__).parent / "peers"
# Scripts of the peers, by kind of work.
SAMPLERS = {"transformers": "transformers_peer.py", "tunix": "tunix_peer.py"}
ENCODERS = {"sentence-transformers": "sentence_transformers_peer.py"}
TRAINERS = {"transformers": "transformers_update_peer.py"}


class Measured(NamedTuple):
    """The measurement of one run.

    Attributes:
      policy_tokens: tokens sampled, or trained on by an update.
      answer: the engine's full report.
    """

    seconds: float
    policy_tokens: int
    answer: dict[str, Any]


class Peer:
    """A process of the peer's Python, which runs the workload once per request.

    Args:
      name: a key of `known`.
      python: the Python interpreter of an environment with the peer installed.
      workload: argument of the peer's script: a file or a model folder.
      known: the peers for this kind of work, and their scripts.

    Raises:
      ValueError: if the peer is unknown or the interpreter does not exist.
      RuntimeError: if the process ends; the message has the end of its output.
    """

    def __init__(
        self,
        name: str,
        python: str,
        workload: Path,
        known: Mapping[str, str] = SAMPLERS,
    ):
        if name not in known:
            raise ValueError(
                f"unknown peer {name!r}; expected one of {', '.join(known)}"
            )
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
        """Runs the workload once; the process is idle between runs."""
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
            # The peer's libraries may print other lines.
            if line.startswith("{"):
                return json.loads(line)
        self._fail()

    def _fail(self) -> NoReturn:
        self._log.seek(0)
        ending = " ".join(self._log.read().split())[-400:]
        self.close()
        raise RuntimeError(f"the {self._name} peer stopped: ...{ending}")
