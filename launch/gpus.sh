#!/usr/bin/env bash
# Trains on the NVIDIA GPUs of this machine, with one process for all of them:
#
#   bash launch/gpus.sh [--dry-run] [--gpus 0,1] CONFIG [arguments of jaxsearch train]
#
# --gpus takes the numbers that nvidia-smi shows. JAX reserves nine tenths of a GPU's
# memory; XLA_PYTHON_CLIENT_MEM_FRACTION sets another share.
set -euo pipefail
# Fails without a GPU instead of training slowly on the CPU, which is listed for the
# work that stays on the host.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dry_run=""
gpus=""
while :; do
  case "${1:-}" in
    --dry-run) dry_run=1 ;;
    --gpus)
      gpus="${2:-}"
      [ -n "$gpus" ] || usage
      shift
      ;;
    *) break ;;
  esac
  shift
done
[ $# -ge 1 ] || usage
forget_processes

if [ -z "$dry_run" ]; then
  if ! nvidia-smi -L >&2; then
    echo "nvidia-smi finds no GPU here; launch/quickstart.sh trains on a CPU" >&2
    exit 2
  fi
  install "${JAXSEARCH_EXTRAS:-cuda}"
fi
# PCI_BUS_ID: nvidia-smi's order. By default CUDA numbers the fastest GPU first.
words=(
  env CUDA_DEVICE_ORDER=PCI_BUS_ID ${gpus:+"CUDA_VISIBLE_DEVICES=$gpus"}
  "XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
  "JAX_PLATFORMS=$JAX_PLATFORMS" "$venv/bin/jaxsearch" train "$@"
)
if [ -n "$dry_run" ]; then
  run "${words[@]}"
else
  # Signals reach the run: it saves its last step at SIGTERM.
  exec "${words[@]}"
fi
