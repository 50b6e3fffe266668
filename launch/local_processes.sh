#!/usr/bin/env bash
# Trains with several processes on this machine's CPU, connected by JAX's runtime like
# the machines of a cluster:
#
#   bash launch/local_processes.sh [--dry-run] N CONFIG [arguments of jaxsearch train]
#
# Each process has one device, which uses all cores. JAXSEARCH_CPU_DEVICES=4 gives it
# four virtual ones, to try a mesh; their collectives share the cores, so this is
# slower. Process 0 writes to this terminal, the others to files. When a process dies,
# the others cannot continue, and JAX aborts them after its heartbeat has been missing
# for a while. This script reports which process died first and why, stops those still
# running after JAXSEARCH_GRACE_S seconds (60), and exits with status 2 for bad input,
# else 1. At SIGTERM all processes save their last step together, and the status is 75
# (2 for bad input); those that cannot within JAXSEARCH_GRACE_S are stopped. The same
# command resumes from the last checkpoint.
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
case "$grace" in
  *[!0-9]*)
    echo "JAXSEARCH_GRACE_S must be a number of seconds, got '$grace'" >&2
    exit 2
    ;;
esac
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

# words_of I ARGUMENT...: sets the array `words` to the command of process I.
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

# Bash reports killed jobs on stderr, which is therefore closed while it watches them.
exec 3>&2
say() { echo "$@" >&3; }

pids=()
statuses=()
running() { [ -z "${statuses[$1]}" ]; }

# signal_all NAME: sends a signal to every running process and its children.
signal_all() {
  local i
  for ((i = 0; i < ${#pids[@]}; i++)); do
    if running "$i"; then kill "-$1" -- "-${pids[i]}" 2>/dev/null || true; fi
  done
}

# interrupted SIGNAL STATUS: forwards the signal, waits a little, exits with the status.
# shellcheck disable=SC2329
interrupted() {
  trap '' INT TERM HUP
  signal_all "$1"
  local until=$((SECONDS + 10))
  while [ -n "$(jobs -rp)" ] && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
  signal_all KILL
  wait
  say "interrupted; the same command resumes from the last checkpoint"
  exit "$2"
}
first_status=0
deadline=0
is_asked=""
trap 'interrupted INT 130' INT
trap 'interrupted HUP 129' HUP
# The processes end by themselves, after the step that JAX's runtime chooses.
trap 'is_asked=1; deadline=$((SECONDS + grace)); signal_all TERM' TERM

for ((i = 0; i < num; i++)); do
  words_of "$i" "$@"
  # A process group each, so that the children of a process end with it.
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

# report I STATUS: prints how a process died, and the last lines of the first one.
report() {
  local why=""
  if [ "$2" = 2 ]; then
    why=" (bad usage or bad input)"
  elif [ "$2" = 75 ]; then
    why=" (saved its last step)"
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
    if [ "$deadline" != 0 ] && [ "$SECONDS" -ge "$deadline" ]; then
      for ((i = 0; i < num; i++)); do
        if running "$i"; then
          say "process $i of $num was still running $grace s later and is stopped"
        fi
      done
      signal_all KILL
      wait
      if [ "$first_status" = 0 ]; then first_status=137; fi
      break
    fi
    sleep 0.1 || true # a signal to the whole group ends it
  done
}
watch 2>/dev/null

# Bad input stays that: the same command would not continue.
case "$first_status" in
  0 | 2) ;;
  *) if [ -n "$is_asked" ]; then first_status=75; fi ;;
esac
case "$first_status" in
  0) exit 0 ;;
  2) exit 2 ;;
  75)
    say "ended early; the same command continues"
    exit 75
    ;;
  *)
    say "the same command resumes from the last checkpoint"
    exit 1
    ;;
esac
