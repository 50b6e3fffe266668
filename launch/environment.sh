# shellcheck shell=bash
# Sourced by the scripts in this folder. Manages a virtual environment with jaxsearch.
# JAXSEARCH_VENV is its folder, PYTHON the interpreter that creates it.

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${JAXSEARCH_VENV:-$here/.venv}"

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    # A shim may exist for a version that is not installed, so run it.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "jaxsearch needs Python 3.11 or newer; set PYTHON to one" >&2
  return 1
}

# install EXTRAS: creates or updates the environment.
install() {
  local extras="$1" python
  # The stamp avoids running pip, which takes a minute even if nothing has changed.
  local stamp="$venv/.jaxsearch-$extras"
  if [ -e "$stamp" ] && [ ! "$here/pyproject.toml" -nt "$stamp" ]; then return; fi
  # pip and venv make an ordinary failure of Ctrl-C.
  trap 'echo "interrupted; the same command continues" >&2; exit 130' INT
  # A creation that was interrupted may have left an environment without pip.
  if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    python="$(find_python)" || exit 1
    echo "creating $venv with $("$python" --version)"
    "$python" -m venv "$venv" || exit 1
  fi
  echo "installing jaxsearch[$extras]"
  "$venv/bin/python" -m pip install --quiet --editable "$here${extras:+[$extras]}" \
    || exit 1
  touch "$stamp"
  trap - INT
}

# say_how_to_activate: unless `jaxsearch` already is this environment's, prints on stderr
# how to put it on the PATH.
say_how_to_activate() {
  if [ "$(command -v jaxsearch)" -ef "$venv/bin/jaxsearch" ]; then return; fi
  echo "for the command jaxsearch in this shell, later:" \
    "source $(quoted "${venv#"$PWD/"}/bin/activate")" >&2
}

# fetch_python: sets PYTHON to a newer Python if the machine's is too old, as on
# Cloud TPU VMs.
fetch_python() {
  if find_python >/dev/null 2>&1; then return; fi
  python3 -m pip install --quiet --user uv || exit 1
  python3 -m uv python install --quiet 3.12 || exit 1
  PYTHON="$(python3 -m uv python find 3.12)" || exit 1
  export PYTHON
}

# forget_processes: unsets variables of another launcher, which would make this run wait
# for processes that never start.
forget_processes() {
  unset JAXSEARCH_COORDINATOR JAXSEARCH_NUM_PROCESSES JAXSEARCH_PROCESS_ID \
    JAXSEARCH_LOCAL_DEVICES JAXSEARCH_DISTRIBUTED
}

# quoted WORD...: prints one line that a shell splits into these words.
quoted() {
  local word line=""
  for word in "$@"; do
    case "$word" in
      "" | *[!A-Za-z0-9_./:=,@%+~-]*)
        word="'$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'"
        ;;
    esac
    line="$line${line:+ }$word"
  done
  echo "$line"
}

# run WORD...: runs the command, or prints it if dry_run is set.
run() {
  if [ -n "${dry_run:-}" ]; then
    quoted "$@"
  else
    "$@"
  fi
}

# usage: prints the comment at the top of the script to stderr; exits with status 2.
usage() {
  sed -n -e '/^#SBATCH/d' -e '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

# CPU, unless JAX_PLATFORMS is set or the machine has an accelerator.
if [ -z "${JAX_PLATFORMS:-}" ] && ! command -v nvidia-smi >/dev/null 2>&1 \
    && [ ! -e /dev/accel0 ] && [ ! -e /dev/vfio/0 ]; then
  export JAX_PLATFORMS=cpu
fi
