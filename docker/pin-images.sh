#!/bin/sh
# Pins the base images of the Dockerfiles to the digests that their tags have now: make pin-images
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "error: $1" >&2
    exit 1
}

command -v docker >/dev/null || fail "docker is not installed, see docs/security.md"
# Those that are pinned already are asked for again: the tag may have a newer image.
images=$(sed -n 's/^FROM \([^ @]*:[^ @]*\).*/\1/p' docker/*.Dockerfile | sort -u)
[ -n "$images" ] || fail "docker/*.Dockerfile: no base image was found"

# All are asked for before a file is changed.
script=
for image in $images; do
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image") ||
        fail "$image: its digest cannot be had; is the registry reachable, and does the tag exist?"
    echo "$digest" | grep -Eqx 'sha256:[0-9a-f]{64}' || fail "$image: docker answered no digest: $digest"
    echo "$image@$digest"
    name=$(echo "$image" | sed 's/[.]/\\./g')
    script="$script
s|^FROM $name\\(@sha256:[0-9a-f]*\\)\\{0,1\\}\\( .*\\)\\{0,1\\}\$|FROM $image@$digest\\2|"
done
for file in docker/*.Dockerfile; do
    sed "$script" "$file" >"$file.partial"
    cmp -s "$file" "$file.partial" || cat "$file.partial" >"$file"
    rm "$file.partial"
done
