#!/usr/bin/env bash
# Installs jaxsearch and runs the tests. --fast leaves out tests of more than two
# seconds, --all includes those of minutes and further cases of what others test; other
# arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "${JAXSEARCH_EXTRAS:-dev}"
cd "$here"
export JAX_PLATFORMS=cpu
# Otherwise each worker, and each command that a test starts, compiles the package again.
unset PYTHONDONTWRITEBYTECODE
case "${1:-}" in
  --fast)
    shift
    set -- -m "not slow and not long" "$@"
    ;;
  --all) shift ;;
  *) set -- -m "not long" "$@" ;;
esac
"$venv/bin/ruff" format --check jaxsearch tests configs launch
"$venv/bin/ruff" check jaxsearch tests configs launch
# Two files at a time: most tests compile, which uses one core; more workers would need
# more memory.
exec "$venv/bin/python" -m pytest tests -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
