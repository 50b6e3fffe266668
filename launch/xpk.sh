#!/usr/bin/env bash
# Trains on a GKE cluster that XPK manages. XPK adds this repository to an image with
# Python and starts it on every worker; there is nothing to build.
#
#   bash launch/xpk.sh [--dry-run] --cluster CLUSTER --name NAME --type v6e-16 \
#     --storage STORAGE --out DIR [--project P] [--zone Z] [--slices 1] \
#     [--restarts 20] [--cache gs://BUCKET/xla] CONFIG [arguments of jaxsearch train]
#
# STORAGE was attached with `xpk storage attach` (Filestore, for example), and DIR is a
# folder in it: all workers write to one run folder, and a restarted run continues from
# the checkpoints there. At most --restarts times XPK restarts processes that ask for it
# (status 75: ended early with nothing lost) or were killed (127 and above: preempted,
# out of memory, aborted because another process was lost), not failed ones.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dry_run="" cluster="" name="" type="" storage="" out="" project="" zone=""
slices=1 restarts=20 cache=""
while :; do
  case "${1:-}" in
    --dry-run) dry_run=1 && shift && continue ;;
    --cluster) cluster="${2:-}" ;;
    --name) name="${2:-}" ;;
    --type) type="${2:-}" ;;
    --storage) storage="${2:-}" ;;
    --out) out="${2:-}" ;;
    --project) project="${2:-}" ;;
    --zone) zone="${2:-}" ;;
    --slices) slices="${2:-}" ;;
    --restarts) restarts="${2:-}" ;;
    --cache) cache="${2:-}" ;;
    *) break ;;
  esac
  [ $# -ge 2 ] || usage
  shift 2
done
for needed in "$cluster" "$name" "$type" "$storage" "$out" "${1:-}"; do
  [ -n "$needed" ] || usage
done

sources=SOURCES
if [ -z "$dry_run" ]; then
  if ! command -v xpk >/dev/null; then
    echo "xpk is not installed: pip install xpk" >&2
    exit 2
  fi
  # Only the commit, without environments and runs in the working tree.
  sources="$(mktemp -d "${TMPDIR:-/tmp}/jaxsearch.XXXXXX")"
  trap 'rm -rf "$sources"' EXIT
  git -C "$here" archive --format=tar HEAD | tar -x -C "$sources"
fi

# With exec, the signal that XPK passes on reaches jaxsearch itself.
command="source launch/environment.sh && install tpu &&\
 exec /venv/bin/jaxsearch train"
run xpk workload create "--cluster=$cluster" "--workload=$name" "--tpu-type=$type" \
  "--num-slices=$slices" ${project:+"--project=$project"} ${zone:+"--zone=$zone"} \
  --base-docker-image=python:3.12 "--script-dir=$sources" "--storage=$storage" \
  "--max-restarts=$restarts" --restart-on-exit-codes=75 --env=JAXSEARCH_VENV=/venv \
  --env=JAXSEARCH_DISTRIBUTED=auto --env=JAX_PLATFORMS=tpu,cpu \
  --env=PYTHONUNBUFFERED=1 \
  "--env=JAX_COMPILATION_CACHE_DIR=${cache:-$(dirname "$out")/xla}" \
  "--command=$command $(quoted "$@" --out "$out")"
