#!/bin/sh
# Builds the server's image, pushes it and deploys it on Cloud Run: make cloud-run PROJECT=... REGION=...
# With SERVICE=dashboard the dashboard's.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "error: $1" >&2
    exit 1
}

usage="make cloud-run PROJECT=my-project REGION=europe-west6"
[ -n "${PROJECT:-}" ] || fail "PROJECT is missing, the Google Cloud project: $usage"
[ -n "${REGION:-}" ] || fail "REGION is missing, where it shall run: $usage"
case "${SERVICE:-}" in "" | dashboard) ;; *) fail "SERVICE is dashboard, or is left out: $usage" ;; esac
for tool in docker gcloud; do
    command -v "$tool" >/dev/null || fail "$tool is not installed, see docs/deployment.md"
done

# Its answer is the repository's address, so that none has to be written here.
repository=$(gcloud artifacts repositories describe plates \
    --project "$PROJECT" --location "$REGION" --format "value(registryUri)") || repository=
[ -n "$repository" ] || fail "there is no repository for the image, or you may not see it; create it: \
gcloud artifacts repositories create plates --repository-format docker --project $PROJECT --location $REGION"

# A tag of its own: Cloud Run makes no revision of one that it has.
image=$repository/${SERVICE:-serve}:$(date -u +%Y%m%d-%H%M%S)
docker build --platform linux/amd64 --file "docker/${SERVICE:-serve}.Dockerfile" --tag "$image" .
token=$(gcloud auth print-access-token)
echo "$token" |
    docker login --username oauth2accesstoken --password-stdin "https://${repository%%/*}"
docker push "$image"
sed "s|image: .*|image: $image|" "docker/cloud-run${SERVICE:+-$SERVICE}.yml" |
    gcloud run services replace - --project "$PROJECT" --region "$REGION"
