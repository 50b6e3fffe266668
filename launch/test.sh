#!/usr/bin/env bash
# Sets everything up and runs the tests. --fast leaves out those over ten seconds, --all
# takes in those that run for minutes; other arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "${JAXSEARCH_EXTRAS:-dev}"
cd "$here"
export JAX_PLATFORMS=cpu
case "${1:-}" in
  --fast)
    shift
    set -- -m "not slow and not long" "$@"
    ;;
  --all) shift ;;
  *) set -- -m "not long" "$@" ;;
esac
"$venv/bin/ruff" format --check jaxsearch tests configs
"$venv/bin/ruff" check jaxsearch tests configs
# Two files at a time: most tests compile, on one core. More would need more memory.
exec "$venv/bin/python" -m pytest tests -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
