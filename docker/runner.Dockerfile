# CML's runner: docker build -f docker/runner.Dockerfile -t swiss-plate-reader-runner:0.20.6 .

# CML's own container, for CML and the Node that it was made for: with Node 18 and later, CML fails
# when it uploads images. The container's Python is too old for the jobs.
FROM iterativeai/cml:0-dvc3-base1 AS cml


FROM python:3.11.14-slim-bookworm

# Debian withdraws a version as soon as there is a newer one: pinned, the image could not be built.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates git libicu72 libkrb5-3 libssl3 make tini zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home runner \
    && install --directory --owner runner --group runner /home/runner/.cache

COPY --from=cml /usr/bin/node /usr/local/bin/node
COPY --from=cml /usr/lib/node_modules/@dvcorg/cml /usr/local/lib/node_modules/@dvcorg/cml
# The tag of CML's container names no more than its major version.
RUN ln -s ../lib/node_modules/@dvcorg/cml/bin/cml.js /usr/local/bin/cml \
    && test "$(cml --version)" = 0.20.6

COPY docker/runner.sh /usr/local/bin/runner.sh

# NVIDIA_*: what the host's container toolkit hands in; CUDA itself comes with PyTorch.
# CML_RUNNER_PATH: a runner that is started anew finds what it has downloaded.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    ITERATIVE_DO_NOT_TRACK=1 \
    HOME=/home/runner \
    CML_RUNNER_PATH=/home/runner/actions

WORKDIR /home/runner
USER 10001:10001

# tini reaps what jobs leave behind, and hands signals on.
ENTRYPOINT ["tini", "--"]
CMD ["runner.sh"]
