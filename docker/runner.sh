#!/bin/sh
# Makes this machine a runner of GitHub Actions, until SIGTERM or Ctrl-C takes it off GitHub's list.
set -eu

: "${REPO_URL:?is missing: set it to the address of the repository, https://github.com/OWNER/NAME}"
: "${personal_access_token:?is missing: set it to a token of GitHub, see docs/runner.md}"

# CML reads the token here; on the command line, every process of the machine could see it.
export REPO_TOKEN="$personal_access_token"
unset personal_access_token
# CML hands these on to no job.
export _CML_RUNNER_SENSITIVE_ENV=REPO_TOKEN

# While a job runs, CML does not leave and forgets that it was asked to: it is asked until it has left.
trap 'stopping=yes; while kill -TERM "$cml" 2>/dev/null; do sleep "${ASK_AGAIN_S:-5}"; done' TERM INT

cml runner launch --repo="$REPO_URL" --labels=cml-runner-gpu --idle-timeout=-1 &
cml=$!
status=0
wait "$cml" || status=$?
if [ -n "${stopping:-}" ]; then
    # The signal ended that wait; this one has CML's own status.
    status=0
    wait "$cml" || status=$?
fi
exit "$status"
