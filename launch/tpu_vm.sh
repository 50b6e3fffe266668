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
# ~/.ssh/google_compute_engine). A failure on a healthy slice is retried --retries times;
# bad input (status 2) is not. The slice stays after the run: the last line shows the
# command that deletes it.
#
# The workers get this checkout, the folder that the command is typed in, and those of
# PYTHONPATH, with changes and new files, without what git ignores (and, outside git,
# without hidden files and runs/). CONFIG and its files may be given relative to that
# folder. HF_TOKEN and WANDB_API_KEY go to the workers in a file that only its owner can
# read; the worker deletes it when the run begins.
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
# Without a number, failures would never be too many, and the slice costs money.
case "$retries" in "" | *[!0-9]*) usage ;; esac
if [ -z "$nfs$setup" ]; then
  echo "give --nfs or --setup: all workers, and the next slice, need one folder" >&2
  exit 2
fi
case "$type" in v5e-*) type="v5litepod-${type#v5e-}" ;; esac # as `plan` names it
case "$type" in
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v4-* | v3-* | v2-*) runtime=tpu-ubuntu2204-base ;;
  *)
    echo "--type must be like v6e-16, v5p-32, v5e-16 or v4-32, got '$type'" >&2
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

# files FOLDER: prints the files to send, each with a final NUL.
files() {
  local file
  if git -C "$1" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git -C "$1" ls-files --cached --others --exclude-standard -z
  else
    (cd "$1" && find . -name '.?*' -prune -o -path ./runs -prune -o -type f -print0)
  fi | while IFS="" read -r -d "" file; do
    # Git also lists files that were deleted but not committed.
    if [ -f "$1/$file" ]; then printf '%s\0' "$file"; fi
  done
}

# place FOLDER: prints where a folder is on the workers, relative to their home folder.
place() {
  case "$1/" in
    "$here/"*) echo "jaxsearch${1#"$here"}" ;;
    *) echo "jaxsearch_$(printf '%s' "${1##*/}" | sed 's/[^A-Za-z0-9_.-]/_/g')" ;;
  esac
}

# The folders to send, and where Python finds the user's modules there.
folders=("$here") python_path=""
add_folder() {
  local folder
  case "$1/" in "$here/"*) return ;; esac
  for folder in "${folders[@]}"; do
    if [ "$folder" = "$1" ]; then return; fi
    if [ "$(place "$folder")" = "$(place "$1")" ]; then
      echo "$folder and $1 have the same name; rename one" >&2
      exit 2
    fi
  done
  folders+=("$1")
}
add_folder "$PWD"
IFS=: read -r -a entries <<<"${PYTHONPATH:-}"
for entry in ${entries[@]+"${entries[@]}"}; do
  if [ -d "$entry" ]; then
    entry="$(cd "$entry" && pwd)"
    add_folder "$entry"
    # The checkout itself is installed there.
    if [ "$entry" != "$here" ]; then
      python_path="${python_path:+$python_path:}~/$(place "$entry")"
    fi
  fi
done

# write_tokens FILE: writes the tokens as assignments; only the owner can read them.
write_tokens() {
  local token
  (
    umask 077
    for token in HF_TOKEN WANDB_API_KEY; do
      if [ -n "${!token:-}" ]; then echo "$token=$(quoted "${!token}")"; fi
    done >"$1"
  )
}

prepare() {
  local staging folder archive tokens unpack="" status=0
  staging="$(mktemp -d "${TMPDIR:-/tmp}/jaxsearch.XXXXXX")"
  tokens="$staging/jaxsearch.env"
  send || status=$?
  rm -rf "$staging"
  return "$status"
}

# send: packs the folders and the tokens, and makes the workers ready.
send() {
  local sent=()
  for folder in "${folders[@]}"; do
    archive="$staging/$(place "$folder").tar.gz"
    if [ -n "$dry_run" ]; then
      echo "# packs $folder, without what git ignores"
    else
      files "$folder" | tar -czf "$archive" -C "$folder" --null -T - || return
    fi
    sent+=("$archive")
    unpack="${unpack:+$unpack && }mkdir -p $(place "$folder") &&\
 tar -xzf ${archive##*/} -C $(place "$folder")"
  done
  write_tokens "$tokens" || return
  if [ -s "$tokens" ]; then
    sent+=("$tokens")
    unpack="chmod 600 ${tokens##*/} && $unpack"
  fi
  run "${vm[@]}" scp "${sent[@]}" "$name:" "--zone=$zone" --worker=all &&
    on_all "$setup" &&
    on_all "$unpack && "\
'cd jaxsearch && source launch/environment.sh && fetch_python && install tpu'
}

train="cd $(place "$PWD") && JAX_COMPILATION_CACHE_DIR=$(quoted "${cache:-$shared/xla}") \
${python_path:+PYTHONPATH=$python_path }bash ~/jaxsearch/launch/tpu_worker.sh \
$shared/logs/$name $(quoted "$@" --out "$shared/runs/$name")"

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
  if [ "$status" = 75 ]; then
    echo "ended early with nothing lost; continues from the last checkpoint" >&2
  elif is_healthy; then
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
