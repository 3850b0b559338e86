#!/usr/bin/env bash
# What a new machine does: a clone of $GIT_URL at $GIT_REV, then cloud/run.sh of that commit. SkyPilot and Batch both run
# these lines.
set -euo pipefail
export GIT_TERMINAL_PROMPT=0
for name in GIT_URL GIT_REV STUDY BUCKET; do
  [ -n "${!name:-}" ] || { echo "start: $name is not set; cloud/README.md says what it is." >&2; exit 1; }
done
work=${WORK:-${HOME:-/root}/facerep-study}
mkdir -p "$(dirname "$work")"
if [ -n "${GIT_TOKEN:-}" ]; then
  # A file that names the token's variable, not the token. git and DVC both read this one; DVC reads no clone's own.
  export GIT_CONFIG_GLOBAL=$work.gitconfig
  # shellcheck disable=SC2016  # git's shell is to expand it
  git config --global credential.helper '!f() { echo username=x-access-token; echo "password=$GIT_TOKEN"; }; f'
fi
if [ ! -e "$work/.git" ]; then
  git clone -q "$GIT_URL" "$work" ||
    { echo "start: GIT_URL=$GIT_URL cannot be cloned, as git says above; correct it, or the token." >&2; exit 1; }
fi
git -C "$work" fetch -q origin
git -C "$work" checkout -q --detach "$GIT_REV" ||
  { echo "start: GIT_REV=$GIT_REV is not in $GIT_URL; push that commit first." >&2; exit 1; }
exec bash "$work/cloud/run.sh"
