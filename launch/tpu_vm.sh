#!/usr/bin/env bash
# Trains on a slice of Cloud TPU VMs, also spot VMs: requests it as a queued resource,
# installs and trains on all workers, and restarts if training ends early; a preempted
# slice is requested again. On your machine:
#
#   bash launch/tpu_vm.sh [--dry-run] --name NAME --zone ZONE --type v6e-16 [--spot] \
#     --nfs SERVER:/SHARE [--setup COMMAND] [--cache gs://BUCKET/xla] [--retries 3] \
#     CONFIG [arguments of jaxsearch train]
#
# All workers write to one run folder, and a spot slice's disks are lost with it, so a
# shared folder is mounted at /mnt/jaxsearch. --nfs names it (Filestore, for example);
# alternatively --setup is a command that mounts something else there on each worker. A
# bucket through gcsfuse needs a hierarchical namespace, because checkpoints are
# finished by renaming a folder. The run is /mnt/jaxsearch/runs/NAME, the logs are in
# /mnt/jaxsearch/logs/NAME. --cache keeps compiled programs in a bucket instead of the
# shared folder.
#
# Needs gcloud with a project, and its key in the agent (ssh-add
# ~/.ssh/google_compute_engine). The workers run the commit that is checked out here. A
# failure on a healthy slice is retried --retries times; bad input (status 2) is not.
# The slice stays after the run: the last line shows the command that deletes it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dry_run="" name="" zone="" type="" spot="" nfs="" setup="" cache="" retries=3
while :; do
  case "${1:-}" in
    --dry-run) dry_run=1 && shift && continue ;;
    --spot) spot=1 && shift && continue ;;
    --name) name="${2:-}" ;;
    --zone) zone="${2:-}" ;;
    --type) type="${2:-}" ;;
    --nfs) nfs="${2:-}" ;;
    --setup) setup="${2:-}" ;;
    --cache) cache="${2:-}" ;;
    --retries) retries="${2:-}" ;;
    *) break ;;
  esac
  [ $# -ge 2 ] || usage
  shift 2
done
if [ -z "$name" ] || [ -z "$zone" ] || [ $# = 0 ]; then usage; fi
if [ -z "$nfs$setup" ]; then
  echo "give --nfs or --setup: all workers, and the next slice, need one folder" >&2
  exit 2
fi
case "$type" in
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v4-* | v3-* | v2-*) runtime=tpu-ubuntu2204-base ;;
  *)
    echo "--type must be like v6e-16, v5p-32, v5litepod-16 or v4-32, got '$type'" >&2
    exit 2
    ;;
esac
shared=/mnt/jaxsearch
if [ -n "$nfs" ]; then
  # A fresh machine may still be updating itself and hold the package lock.
  setup="sudo apt-get -o DPkg::Lock::Timeout=600 install -y -q nfs-common &&\
 sudo mkdir -p $shared &&\
 (mountpoint -q $shared || sudo mount -t nfs $(quoted "$nfs") $shared) &&\
 sudo chmod 1777 $shared${setup:+ && $setup}"
fi

queued=(gcloud compute tpus queued-resources)
vm=(gcloud compute tpus tpu-vm)
delete=("${queued[@]}" delete "$name" "--zone=$zone" --force --quiet)

create() {
  run "${queued[@]}" create "$name" "--node-id=$name" "--zone=$zone" \
    "--accelerator-type=$type" "--runtime-version=$runtime" ${spot:+--spot}
}

# on_all COMMAND: runs it on every worker; ends when one does not answer for 2 minutes.
on_all() {
  run "${vm[@]}" ssh "$name" "--zone=$zone" --worker=all --command="$1" \
    --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4
}

# state: prints the state of the request, such as ACTIVE; nothing if there is none.
state() {
  "${queued[@]}" describe "$name" "--zone=$zone" '--format=value(state.state)' \
    2>/dev/null || true
}

is_healthy() {
  [ "$(state)" = ACTIVE ] &&
    [ "$("${vm[@]}" describe "$name" "--zone=$zone" '--format=value(state)' \
      2>/dev/null)" = READY ]
}

# have_slice: requests a slice if necessary, returns when there is one.
have_slice() {
  local now refusals=0
  if [ -n "$dry_run" ]; then
    create
    run "${queued[@]}" describe "$name" "--zone=$zone" '--format=value(state.state)'
    return
  fi
  while ! is_healthy; do
    now="$(state)"
    echo "$(date +%T) $name is ${now:-not requested}" >&2
    case "$now" in
      "") create || refusals=$((refusals + 1)) ;;
      # An active request whose machines are not ready was just preempted.
      ACTIVE | SUSPENDING | SUSPENDED | FAILED) "${delete[@]}" || true ;;
    esac
    if [ "$refusals" -gt "$retries" ]; then
      echo "gcloud refused $refusals times to create $name" >&2
      exit 1
    fi
    sleep 30
  done
}

prepare() {
  local folder archive
  folder="$(mktemp -d "${TMPDIR:-/tmp}/jaxsearch.XXXXXX")"
  archive="$folder/jaxsearch.tar.gz"
  run git -C "$here" archive --format=tar.gz "--output=$archive" HEAD &&
    run "${vm[@]}" scp "$archive" "$name:" "--zone=$zone" --worker=all &&
    on_all "$setup" &&
    on_all 'mkdir -p jaxsearch && tar -xzf jaxsearch.tar.gz -C jaxsearch && '\
'cd jaxsearch && source launch/environment.sh && fetch_python && install tpu'
  local status=$?
  rm -rf "$folder"
  return "$status"
}

train="cd jaxsearch && JAX_COMPILATION_CACHE_DIR=$(quoted "${cache:-$shared/xla}") \
bash launch/tpu_worker.sh $shared/logs/$name $(quoted "$@" --out "$shared/runs/$name")"

if [ -z "$dry_run" ] && ! command -v gcloud >/dev/null; then
  echo "gcloud is not installed: it comes with the Google Cloud CLI" >&2
  exit 2
fi
failures=0
while :; do
  have_slice
  status=0
  if prepare; then
    on_all "$train" || status=$?
    if [ "$status" = 0 ] || [ "$status" = 2 ]; then break; fi
  else
    status=1
  fi
  # The state of a preempted slice changes with a delay.
  sleep 60
  if is_healthy; then
    failures=$((failures + 1))
    echo "failed with status $status on a healthy slice ($failures)" >&2
    if [ "$failures" -gt "$retries" ]; then break; fi
  else
    failures=0
    echo "the slice is gone; requesting another one to resume from the last checkpoint" >&2
  fi
done
if [ -n "$dry_run" ]; then
  echo "# if the slice was preempted, this, and all of the above again:"
  run "${delete[@]}"
fi
echo "when the slice is no longer needed: $(quoted "${delete[@]}")" >&2
exit "$status"
