#!/usr/bin/env bash
# Trains with several processes on this machine's CPU, joined by JAX's own runtime as
# the machines of a cluster are:
#
#   bash launch/local_processes.sh [--dry-run] N CONFIG [arguments of jaxsearch train]
#
# Each has one device, which uses all cores; JAXSEARCH_CPU_DEVICES=4 makes it four
# virtual ones, to try a mesh (slower: their collectives share the cores). Process 0
# writes here, the others to files. When a process dies, the others cannot go on, and
# JAX aborts them once its heartbeat has been missing for a while. This script says
# which one died first and why, stops those that still run after JAXSEARCH_GRACE_S
# seconds (60), and ends with status 2 if the input was bad, else 1.
# The same command goes on from the last checkpoint.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dry_run=""
if [ "${1:-}" = "--dry-run" ]; then
  dry_run=1
  shift
fi
case "${1:-}" in "" | *[!0-9]* | 0*) usage ;; esac
[ $# -ge 2 ] || usage
num="$1"
shift
devices="${JAXSEARCH_CPU_DEVICES:-1}"
grace="${JAXSEARCH_GRACE_S:-60}"
forget_processes

port=PORT
if [ -z "$dry_run" ]; then
  install ""
  port="$("$venv/bin/python" -c '
import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])')"
  logs="$(mktemp -d "${TMPDIR:-/tmp}/jaxsearch.XXXXXX")"
fi

# words_of I: the command of process I, as the array `words`.
words_of() {
  words=(
    env JAX_PLATFORMS=cpu PYTHONUNBUFFERED=1
    "XLA_FLAGS=${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$devices"
    "JAXSEARCH_COORDINATOR=127.0.0.1:$port"
    "JAXSEARCH_NUM_PROCESSES=$num" "JAXSEARCH_PROCESS_ID=$1"
    "$venv/bin/jaxsearch" train "${@:2}"
  )
}

if [ -n "$dry_run" ]; then
  for ((i = 0; i < num; i++)); do
    words_of "$i" "$@"
    run "${words[@]}"
  done
  exit
fi

# Bash announces killed jobs on stderr by itself, so while it watches them, that is closed.
exec 3>&2
say() { echo "$@" >&3; }

pids=()
statuses=()
running() { [ -z "${statuses[$1]}" ]; }

# signal_all NAME: to every process that runs, and to what it has started.
signal_all() {
  local i
  for ((i = 0; i < ${#pids[@]}; i++)); do
    if running "$i"; then kill "-$1" -- "-${pids[i]}" 2>/dev/null || true; fi
  done
}

# interrupted SIGNAL STATUS: passes it on, waits a little, and ends with that status.
# shellcheck disable=SC2329
interrupted() {
  trap '' INT TERM HUP
  signal_all "$1"
  # JAX's runtime may take a SIGTERM for a notice of preemption, and go on.
  local until=$((SECONDS + 10))
  while [ -n "$(jobs -rp)" ] && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
  signal_all KILL
  wait
  say "interrupted; the same command goes on from the last checkpoint"
  exit "$2"
}
trap 'interrupted INT 130' INT
trap 'interrupted TERM 143' TERM
trap 'interrupted HUP 129' HUP

for ((i = 0; i < num; i++)); do
  words_of "$i" "$@"
  # Groups of their own, so that what a process has started ends with it.
  set -m
  if [ "$i" = 0 ]; then
    "${words[@]}" </dev/null &
  else
    "${words[@]}" </dev/null >"$logs/process_$i.log" 2>&1 &
  fi
  set +m
  pids+=($!)
  statuses+=("")
done
[ "$num" = 1 ] || say "output of all but process 0 is in $logs"

first_status=0
deadline=0

# report I STATUS: how a process died, and for the first one its last lines.
report() {
  local why=""
  if [ "$2" = 2 ]; then
    why=" (bad usage or bad input)"
  elif [ "$2" -gt 128 ]; then
    why=" (killed by SIG$(kill -l "$2"))" || why=""
  fi
  if [ "$first_status" != 0 ]; then
    say "then process $1 of $num ended with status $2$why"
    return
  fi
  first_status="$2"
  deadline=$((SECONDS + grace))
  if [ "$1" = 0 ]; then
    say "process 0 of $num ended with status $2$why; its output is above"
  else
    say "process $1 of $num ended with status $2$why; its last lines:"
    tail -n 20 "$logs/process_$1.log" | sed 's/^/  /' >&3
    say "log $logs/process_$1.log"
  fi
}

watch() {
  local i status left="$num"
  while :; do
    for ((i = 0; i < num; i++)); do
      if ! running "$i" || kill -0 "${pids[i]}" 2>/dev/null; then continue; fi
      status=0
      wait "${pids[i]}" 2>/dev/null || status=$?
      statuses[i]="$status"
      left=$((left - 1))
      if [ "$status" != 0 ]; then report "$i" "$status"; fi
    done
    if [ "$left" = 0 ]; then break; fi
    if [ "$first_status" != 0 ] && [ "$SECONDS" -ge "$deadline" ]; then
      for ((i = 0; i < num; i++)); do
        if running "$i"; then
          say "process $i of $num still ran $grace s later and is stopped"
        fi
      done
      signal_all KILL
      wait
      break
    fi
    sleep 0.1
  done
}
watch 2>/dev/null

case "$first_status" in
  0) exit 0 ;;
  2) exit 2 ;;
  *)
    say "the same command goes on from the last checkpoint"
    exit 1
    ;;
esac
