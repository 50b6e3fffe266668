#!/usr/bin/env bash
# Sets everything up and runs the tests. --fast leaves out those over ten seconds;
# other arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "${JAXSEARCH_EXTRAS:-dev}"
cd "$here"
export JAX_PLATFORMS=cpu
if [ "${1:-}" = "--fast" ]; then
  shift
  set -- -m "not slow" "$@"
fi
"$venv/bin/ruff" format --check jaxsearch tests configs
"$venv/bin/ruff" check jaxsearch tests configs
exec "$venv/bin/python" -m pytest tests -q "$@"
