#!/usr/bin/env bash
# Once: the bucket, the account that the machines run as, and its rights: objects in this bucket, one secret, and no more.
#
#   PROJECT=my-project BUCKET=my-bucket REGION=us-central1 cloud/bucket.sh            # --print: show the lines, run none
#
# The git token is read from the shell's GIT_TOKEN, or asked for. Running it again changes nothing but the token.
set -euo pipefail
die() { echo "bucket: $*" >&2; exit 1; }
run() {
  if [ -n "$print" ]; then printf '%q ' "$@"; echo; else "$@"; fi
}
there() { [ -z "$print" ] && "$@" >/dev/null 2>&1; }

print=
case "${1:-}" in
  '') ;;
  --print) print=1 ;;
  *) die "$1: the only option is --print." ;;
esac
for name in PROJECT BUCKET REGION; do
  [ -n "${!name:-}" ] || die "$name is not set; as in PROJECT=my-project BUCKET=my-bucket REGION=us-central1 cloud/bucket.sh."
done
[ -n "$print" ] || command -v gcloud >/dev/null || die "gcloud is not installed; see https://cloud.google.com/sdk/docs/install."
account=facerep-study@$PROJECT.iam.gserviceaccount.com
member=serviceAccount:$account

run gcloud services enable --project "$PROJECT" storage.googleapis.com iam.googleapis.com secretmanager.googleapis.com \
  compute.googleapis.com batch.googleapis.com logging.googleapis.com

# One region, where the GPUs are: bytes between them cost nothing. No object has rights of its own, none is public.
# Without soft delete: a deleted checkpoint would be paid for another week.
there gcloud storage buckets describe "gs://$BUCKET" ||
  run gcloud storage buckets create "gs://$BUCKET" --project "$PROJECT" --location "$REGION" \
    --uniform-bucket-level-access --public-access-prevention --soft-delete-duration 0
# Checkpoints that nobody came back for; what lies under dvc/ stays.
rule='{"rule": [{"action": {"type": "Delete"}, "condition": {"age": 14, "matchesPrefix": ["scratch/"]}}]}'
lifecycle=$(mktemp)
trap 'rm -f "$lifecycle"' EXIT
printf '%s\n' "$rule" > "$lifecycle"
[ -z "$print" ] || echo "# lifecycle file: $rule"
run gcloud storage buckets update "gs://$BUCKET" --lifecycle-file "$lifecycle"

there gcloud iam service-accounts describe --project "$PROJECT" "$account" ||
  run gcloud iam service-accounts create facerep-study --project "$PROJECT" --display-name "Machines that run facerep's studies"
# Get, list, create and delete objects: DVC and gcsfs ask nothing of the bucket itself.
run gcloud storage buckets add-iam-policy-binding "gs://$BUCKET" --member "$member" --role roles/storage.objectUser

# What the machine pushes to git with.
there gcloud secrets describe --project "$PROJECT" facerep-git ||
  run gcloud secrets create facerep-git --project "$PROJECT" --replication-policy automatic
if [ -n "$print" ]; then
  echo "gcloud secrets versions add facerep-git --project $PROJECT --data-file - < the token"
else
  [ -n "${GIT_TOKEN:-}" ] || read -rsp "Token that may push to your repository: " GIT_TOKEN
  printf %s "$GIT_TOKEN" | gcloud secrets versions add facerep-git --project "$PROJECT" --data-file -
fi
run gcloud secrets add-iam-policy-binding facerep-git --project "$PROJECT" --member "$member" \
  --role roles/secretmanager.secretAccessor

# For Batch alone: its agent on the machine reports, and writes the log. These two exist on projects only.
for role in roles/batch.agentReporter roles/logging.logWriter; do
  run gcloud projects add-iam-policy-binding "$PROJECT" --member "$member" --role "$role" --condition None
done
