#!/usr/bin/env bash
# Installs jaxsearch on a fresh machine and trains a tiny policy to search. Downloads
# nothing but Python packages. Arguments go to `jaxsearch train`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install ""
say_how_to_activate
cd "$here"
exec "$venv/bin/jaxsearch" train configs/quickstart.py --json "$@"
