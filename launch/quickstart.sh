#!/usr/bin/env bash
# Sets everything up on a fresh machine and shows a tiny policy learn to search.
# Nothing is downloaded but Python packages. Arguments go to `jaxsearch train`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install ""
cd "$here"
exec "$venv/bin/jaxsearch" train configs/quickstart.py --json "$@"
