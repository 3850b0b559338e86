#!/usr/bin/env bash
# One study on a machine that may vanish at any moment. It runs in the clone that it lies in, at the commit that is checked
# out there; what it makes goes to the git remote `origin` and to the bucket, and the same line on another machine goes on.
#
#   STUDY=studies/lfw.yaml BUCKET=my-bucket cloud/run.sh
#
# JOBS         runs at a time (1)
# SYNC_S       seconds between two trips home with what has been finished (300)
# GPU          1: refuse a machine whose GPU torch cannot use (the default, 0, trains on whatever there is)
# PYTHON       a Python that has requirements.lock installed; without it .venv is made
# STORAGE_EMULATOR_HOST   an emulator in the place of Google's bucket, as Google's own libraries know it
set -euo pipefail

die() { echo "run: $*" >&2; exit 1; }
say() { echo "run: $(date -u +%H:%M:%S) $*"; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo=$PWD
home=$repo/scratch/home   # a second clone, which carries things home: DVC locks a repository, and the study has this one
STUDY=${STUDY:-} BUCKET=${BUCKET:-} JOBS=${JOBS:-1} SYNC_S=${SYNC_S:-300} GPU=${GPU:-0}

checked() {
  [ -n "$STUDY" ] || die "STUDY is not set; name a study's file, such as STUDY=studies/lfw.yaml."
  [ -f "$STUDY" ] || die "STUDY=$STUDY: there is no such file in this commit; commit and push it first."
  [[ $BUCKET =~ ^[a-z0-9][a-z0-9._-]+$ ]] || die "BUCKET='$BUCKET': give a bucket's bare name, such as BUCKET=my-bucket."
  [[ $JOBS =~ ^[1-9][0-9]*$ ]] || die "JOBS=$JOBS: give a number from 1 up."
  [[ $SYNC_S =~ ^[1-9][0-9]*$ ]] || die "SYNC_S=$SYNC_S: give seconds, from 1 up."
  name=$(sed -nE 's/^name: *([a-z0-9_]+).*/\1/p' "$STUDY")
  [ -n "$name" ] || die "$STUDY: it has no line 'name: …'; see studies/demo.yaml."
  rev=$(git rev-parse HEAD)
  url=$(git remote get-url origin) || die "this clone has no remote origin; results are pushed there."
  export GIT_TERMINAL_PROMPT=0
  git config user.name >/dev/null || git config user.name facerep
  git config user.email >/dev/null || git config user.email facerep@localhost
  git push -q --dry-run origin "$rev:refs/exps/${rev:0:2}/${rev:2}/none" ||
    die "origin ($url) takes no push, as git says above; results could not be brought home."
}

environment() {   # $PYTHON, with everything in requirements.lock
  if [ -z "${PYTHON:-}" ]; then
    local candidate base=
    for candidate in python3 python3.13 python3.12 python3.11; do
      if "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        base=$candidate
        break
      fi
    done
    if [ -z "$base" ]; then   # the usual images of GPU machines have older ones
      command -v uv >/dev/null || { curl -LsSf https://astral.sh/uv/install.sh | sh && PATH=$HOME/.local/bin:$PATH; }
      uv python install -q 3.12 || die "there is no Python 3.11 or later, and uv could not install one."
      base=$(uv python find 3.12)
    fi
    make PYTHON="$base" .venv/.installed
    PYTHON=$repo/.venv/bin/python
  fi
  [ -x "$PYTHON" ] || die "PYTHON=$PYTHON: no such program."
  PATH=$(dirname "$PYTHON"):$PATH
  export PATH
  # else the study would train on the processor, at the price of a GPU
  [ "$GPU" != 1 ] || python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    die "torch $(python -c 'import torch; print(torch.__version__)') finds no GPU that it can use here; take an image whose NVIDIA driver is new enough (cloud/README.md: The driver)."
}

pointed_at_bucket() {   # in the clone of the current folder
  facerep remote use --local "gs://$BUCKET/dvc"
  if [ -n "${STORAGE_EMULATOR_HOST:-}" ]; then
    dvc remote modify --local storage endpointurl "$STORAGE_EMULATOR_HOST"
    dvc remote modify --local storage allow_anonymous_login true
  fi
  dvc config --local cache.dir "$repo/.dvc/cache"
  dvc config --local cache.type reflink,hardlink,copy   # else every run copies the archives
}

prepared() {
  export FACEREP_SCRATCH=gs://$BUCKET/scratch   # checkpoints outlive the machine
  export GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false   # else gcsfs asks for rights on the bucket itself
  mkdir -p scratch
  if [ ! -e "$home/.git" ]; then
    git clone -q --shared --no-checkout . "$home"
    git -C "$home" remote set-url origin "$url"
  fi
  git -C "$home" config user.name "$(git config user.name)"
  git -C "$home" config user.email "$(git config user.email)"
  git -C "$home" fetch -q "$repo" HEAD
  git -C "$home" checkout -qf --detach "$rev"
  pointed_at_bucket
  (cd "$home" && pointed_at_bucket)
  facerep remote check
}

sync() {   # what has been finished goes home
  flock scratch/home.lock python cloud/home.py send "$STUDY"
}

published() {   # results/<study>/ as a commit of the branch results/<study>, beside whatever is checked out
  local branch=refs/heads/results/$name tip tree commit
  tip=$(git ls-remote origin "$branch" | cut -f1)
  if [ -n "$tip" ]; then git fetch -q origin "$branch"; else tip=$rev; fi
  export GIT_INDEX_FILE=$repo/scratch/index
  git read-tree "$rev"
  git add -f "results/$name"
  tree=$(git write-tree)
  unset GIT_INDEX_FILE
  if [ "$tree" != "$(git rev-parse "$tip^{tree}")" ]; then
    commit=$(git commit-tree "$tree" -p "$tip" -m "Results of $STUDY at $rev")
    git push -q origin "$commit:$branch"
  fi
}

stopped() {   # a preempted machine has half a minute: training saves a checkpoint as soon as DVC is gone
  trap '' TERM INT
  say "asked to stop; training saves a checkpoint, and what is finished goes home."
  kill "$study" "$syncing" 2>/dev/null || true   # first, since it would start what ends again
  dvc queue stop --kill >/dev/null 2>&1 &
  local ending=$!
  sync || true
  wait "$ending" || true
  exit 143
}

checked
environment
prepared
say "$STUDY at $rev, to $url and gs://$BUCKET"
python cloud/home.py bring "$STUDY"
(while sleep "$SYNC_S"; do sync || say "the trip home failed, the next one takes it all."; done) &
syncing=$!
facerep study "$STUDY" --jobs "$JOBS" &
study=$!
trap stopped TERM INT
code=0
wait "$study" || code=$?
trap - TERM INT
kill "$syncing" 2>/dev/null || true
sync || { say "the trip home failed; another in a minute."; sleep 60; sync; }
[ "$code" -eq 0 ] || die "the study ended with exit code $code, as it says above; what is finished is at home."
published
say "done: the branch results/$name of $url has the page, \`dvc exp pull\` the experiments."
