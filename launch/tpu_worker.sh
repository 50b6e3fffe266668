#!/usr/bin/env bash
# Trains on one worker of a TPU slice; launch/tpu_vm.sh runs it on every worker:
#
#   bash launch/tpu_worker.sh LOGS CONFIG [arguments of jaxsearch train]
#
# Output goes to LOGS/<host>.log, that of worker 0 to the terminal too. A worker that
# fails prints its last lines.
set -euo pipefail
export JAX_PLATFORMS=tpu,cpu PYTHONUNBUFFERED=1
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[ $# -ge 2 ] || usage
mkdir -p "$1"
log="$1/$(hostname).log"
shift

# Tokens from launch/tpu_vm.sh.
tokens="$HOME/jaxsearch.env"
if [ -f "$tokens" ]; then
  set -a
  # shellcheck source=/dev/null
  source "$tokens"
  set +a
  rm "$tokens"
fi

# A broken connection may have left a process that holds the TPU.
pid_file="$HOME/.jaxsearch.pid"
if old="$(cat "$pid_file" 2>/dev/null)" &&
  grep -qs jaxsearch "/proc/$old/cmdline"; then
  kill -KILL "$old"
fi

# Variables of a replaced slice would make the start wait for workers that are gone.
# Without them JAX asks the machine.
forget_processes
unset MEGASCALE_COORDINATOR_ADDRESS MEGASCALE_NUM_SLICES MEGASCALE_SLICE_ID
unset TPU_WORKER_HOSTNAMES TPU_WORKER_ID TPU_PROCESS_ADDRESSES
export JAXSEARCH_DISTRIBUTED=auto

train() {
  bash -c 'echo $$ >"$0"; exec "$@"' "$pid_file" "$venv/bin/jaxsearch" train "$@" 2>&1
}
status=0
case "$(hostname)" in
  *-w-0) train "$@" | tee -a "$log" || status=$? ;;
  *) train "$@" >>"$log" || status=$? ;;
esac
if [ "$status" != 0 ]; then
  echo "$(hostname) ended with status $status; its last lines:" >&2
  tail -n 20 "$log" | sed "s/^/  /" >&2
fi
exit "$status"
