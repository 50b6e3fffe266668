#!/usr/bin/env bash
# Installs jaxsearch on a fresh machine and trains a tiny policy to search. Downloads
# nothing but Python packages. The policy starts from a warm-up that ships with the
# package; with --from-scratch as the first argument, from random weights. Other
# arguments go to `jaxsearch train`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install ""
say_how_to_activate
cd "$here"
config=configs/quickstart.py
if [ "${1:-}" = --from-scratch ]; then
  config=configs/quickstart_from_scratch.py
  shift
fi
exec "$venv/bin/jaxsearch" train "$config" --json "$@"
