#!/usr/bin/env bash
# One study on a preemptible GPU by plain gcloud: a job of Google's Batch, which costs nothing itself. Batch makes the machine,
# makes another when it is taken away, and deletes it when the study is done.
#
#   PROJECT=my-project BUCKET=my-bucket REGION=us-central1 STUDY=studies/lfw.yaml cloud/batch.sh     # --print: the job as JSON
#
# MACHINE   g2-standard-8, with one L4 (a2-highgpu-1g: with one A100)
# IMAGE     a Deep Learning VM with NVIDIA's driver 580, which torch in requirements.lock wants
# MODEL     SPOT (STANDARD: on demand, never taken away)
# GIT_URL   this clone's origin       GIT_REV   this clone's commit       JOBS, SYNC_S   as in cloud/run.sh
set -euo pipefail
die() { echo "batch: $*" >&2; exit 1; }
here=$(dirname "${BASH_SOURCE[0]}")

print=
case "${1:-}" in
  '') ;;
  --print) print=1 ;;
  *) die "$1: the only option is --print." ;;
esac
for name in PROJECT BUCKET REGION STUDY; do
  [ -n "${!name:-}" ] || die "$name is not set; as in PROJECT=my-project BUCKET=my-bucket REGION=us-central1 STUDY=studies/lfw.yaml cloud/batch.sh."
done
GIT_URL=${GIT_URL:-$(git -C "$here" remote get-url origin)} || die "GIT_URL is not set, and this clone has no remote origin."
GIT_REV=${GIT_REV:-$(git -C "$here" rev-parse HEAD)}
export PROJECT BUCKET REGION STUDY GIT_URL GIT_REV JOBS="${JOBS:-1}" SYNC_S="${SYNC_S:-300}"
export MACHINE="${MACHINE:-g2-standard-8}" MODEL="${MODEL:-SPOT}"
export IMAGE="${IMAGE:-projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2404-nvidia-580}"
case "$GIT_URL" in
  https://*) ;;
  *) die "GIT_URL=$GIT_URL: give the https:// address; the machine has a token for it, and no key for ssh." ;;
esac

job() {
  python3 - "$here/start.sh" <<'PY'
import json, os, sys
e = os.environ
needs = """export DEBIAN_FRONTEND=noninteractive HOME=/root WORK=/var/lib/facerep-study
apt-get -qq update
apt-get -qq install -y git make curl python3-venv
"""
task = {
    "runnables": [{"script": {"text": "#!/usr/bin/env bash\n" + needs + open(sys.argv[1]).read()}}],
    "environment": {
        "variables": {name: e[name] for name in ("STUDY", "GIT_URL", "GIT_REV", "BUCKET", "JOBS", "SYNC_S")} | {"GPU": "1"},
        "secretVariables": {"GIT_TOKEN": f"projects/{e['PROJECT']}/secrets/facerep-git/versions/latest"},
    },
    "maxRetryCount": 10,  # as many as Batch allows; then the same line once more goes on
    # 50001: the machine was taken away. Whatever else fails would only fail again
    "lifecyclePolicies": [{"action": "RETRY_TASK", "actionCondition": {"exitCodes": [50001]}}],
}
policy = {
    "machineType": e["MACHINE"],
    "provisioningModel": e["MODEL"],
    "bootDisk": {"sizeGb": 300, "type": "pd-balanced", "image": e["IMAGE"]},
}
print(json.dumps({
    "taskGroups": [{"taskCount": 1, "taskSpec": task}],
    "allocationPolicy": {
        "location": {"allowedLocations": [f"regions/{e['REGION']}"]},
        "serviceAccount": {"email": f"facerep-study@{e['PROJECT']}.iam.gserviceaccount.com"},
        "instances": [{"policy": policy}],
    },
    "logsPolicy": {"destination": "CLOUD_LOGGING"},
}, indent=2))
PY
}

if [ -n "$print" ]; then
  job
  exit
fi
command -v gcloud >/dev/null || die "gcloud is not installed; see https://cloud.google.com/sdk/docs/install."
name=facerep-$(basename "$STUDY" .yaml | tr _ -)-$(date -u +%m%d-%H%M%S)
job | gcloud batch jobs submit "$name" --project "$PROJECT" --location "$REGION" --config -
cat <<EOF
gcloud batch jobs describe $name --project $PROJECT --location $REGION    # how it fares
gcloud batch jobs delete $name --project $PROJECT --location $REGION      # stops it; what is home stays
EOF
