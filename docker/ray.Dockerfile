# A node of a Ray cluster: docker build -f docker/ray.Dockerfile -t swiss-plate-reader-ray:0.2.0 .

# What nodes share, the code among it, is in the workspace (docs/cluster.md); here are its packages alone. They
# are where every shell finds them: KubeRay starts Ray by its name.
FROM python:3.11.14-slim-bookworm

# Debian withdraws a version as soon as there is a newer one: pinned, the image could not be built.
# KubeRay's probes call wget.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git make wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /build
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir --no-deps --requirement requirements.txt \
    && install --directory --owner 10001 --group 10001 /workspace

# The root file system may be read-only: no bytecode is written, and Ray writes to /tmp.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    RAY_USAGE_STATS_ENABLED=0

WORKDIR /workspace
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001

CMD ["ray", "start", "--head", "--block"]
