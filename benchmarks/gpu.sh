#!/usr/bin/env bash
# What a machine with a GPU is for, in one go and without a network: the tests that need CUDA, the speed of training
# steps, what feeds them, and a real pretraining with its frozen-feature scores.
#
#   bash benchmarks/gpu.sh [--cpu] [--tiny] [tests] [steps] [loader] [pretrain]      # no name: all four
#
# `make gpu-pack` beforehand, where there is a network, fills .gpu/ with what the machine lacks. JSON, a log and the
# pretrained weights go to the folder that OUT names (default: gpu-results, in the clone). A part that fails, or takes longer than
# its limit, is said to and the next goes on; the exit code is then 1.
# --cpu: the same without a GPU. --tiny: next to no work, on a few faces that are drawn first, where DVC's packages are.
set -uo pipefail
cd "$(dirname "$0")/.."

device=cuda tiny="" parts=""
for word in "$@"; do
  case $word in
    --cpu) device=cpu ;;
    --tiny) tiny=yes ;;
    tests | steps | loader | pretrain) parts+=" $word" ;;
    *) echo "gpu.sh: $word: not known; --cpu, --tiny, tests, steps, loader or pretrain" >&2; exit 2 ;;
  esac
done
[ -x .venv/bin/python ] && : "${PYTHON:=$PWD/.venv/bin/python}" # make's, where that has run
: "${parts:= tests steps loader pretrain}" "${PYTHON:=python3}" "${OUT:=gpu-results}"
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
exec > >(tee "$OUT/log.txt") 2>&1
log=$! work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT

# What the pack holds: wheels where something is missing, faces.
export PYTHONPATH=$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 COLUMNS=140 HF_HUB_OFFLINE=1
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # cuBLAS is deterministic with this alone, if it is there before the first product
pack=.gpu failed=0
complete() { "$PYTHON" -c "import pydantic, ruamel.yaml, simplejpeg"; }
if ! complete 2> /dev/null; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site" $pack/wheels/*.whl
  export PYTHONPATH=$work/site:$PYTHONPATH
  complete || { echo "gpu.sh: FAILED: packages are missing; run make gpu-pack where there is a network"; failed=1; }
fi
if [ -n "$tiny" ]; then
  pack=$work/pack
  FACEREP_SCRATCH=$work/scratch "$PYTHON" -m benchmarks.gpu_pack --drawn --into "$work/pack"
fi
if ! tar -xzf "$pack/data.tar.gz" -C "$work"; then
  echo "gpu.sh: FAILED: no faces to pretrain on; run make gpu-pack where there is a network"
  failed=1
fi

seconds=120 # of pretraining
steps=(--repeats 3 --seconds 0.3)
loader=(--repeats 3 --seconds 0.3 --distinct 64)
if [ -n "$tiny" ]; then
  seconds=4
  export TORCH_COMPILE_DISABLE=1 # compilers take a minute on two cores
  steps=(--repeats 1 --seconds 0 --rotated atto:32:4 --grayscale atto:32:2)
  loader=(--repeats 1 --seconds 0 --case atto:32:4 --photographs 16 --distinct 4)
fi

"$PYTHON" -c "import sys; from importlib.metadata import version as v
print('Python', sys.version.split()[0], *(f'{name} {v(name)}' for name in ('torch', 'torchvision', 'transformers', 'numpy')))"
if [ $device = cuda ] && ! "$PYTHON" -c "import torch; raise SystemExit(not torch.cuda.is_available())"; then
  echo "gpu.sh: FAILED: torch sees no CUDA here; --cpu does without"
  failed=1
fi
[ $device = cpu ] || nvidia-smi --query-gpu=name,memory.total,driver_version,power.limit,clocks.max.sm --format=csv

done_so_far=""
part() { # NAME LIMIT COMMAND…: run it if it was asked for, note how it ended
  local name=$1 limit=$(($2 > 10 ? $2 : 10)) start=$SECONDS code
  shift 2
  [[ " $parts " == *" $name "* ]] || return 0
  printf '\n=== %s: %s\n' "$name" "$*"
  timeout --kill-after 3 "$limit" "$@" < /dev/null
  code=$?
  case $code in
    0) echo "=== $name: done in $((SECONDS - start)) s" ;;
    124 | 137) echo "=== $name: FAILED, it took longer than $limit s" ;;
    *) echo "=== $name: FAILED with exit code $code, after $((SECONDS - start)) s" ;;
  esac
  done_so_far+="${done_so_far:+, }\"$name\": {\"exit_code\": $code, \"seconds\": $((SECONDS - start))}"
  printf '{"device": "%s", "parts": {%s}}\n' "$device" "$done_so_far" > "$OUT/parts.json"
  [ $code = 0 ] || failed=1
}

# 8 minutes in all: 235 s to the end of steps, which keeps each case that it has measured, 75 and 155 for the others
part tests 85 "$PYTHON" -m pytest -m gpu -v --tb=short -p no:cacheprovider --timeout 60 --session-timeout 75 --durations 8 \
  $(grep -rlE '^@pytest\.mark\.gpu' --include='*.py' tests)
part steps $((235 - SECONDS)) "$PYTHON" -m benchmarks.train_step --device $device --json "$OUT/train_step.json" "${steps[@]}"
part loader 75 "$PYTHON" -m benchmarks.loader --device $device --json "$OUT/loader.json" "${loader[@]}"
part pretrain 155 "$PYTHON" -m benchmarks.gpu_pretrain --device $device --data "$work/data" --seconds $seconds --out "$OUT"
printf '\n=== %s s in all, results in %s\n' $SECONDS "$OUT"
exec > /dev/null 2>&1
timeout 5 tail --pid=$log -f /dev/null # the log is whole then, unless a process that was killed has left a child
exit $failed
