# The HTTP server: docker build -f docker/serve.Dockerfile -t swiss-plate-reader-serve:0.2.0 .

FROM python:3.11.14-slim-bookworm AS build

WORKDIR /build
COPY requirements-serve.txt ./
# Wheels alone: what would have to be compiled fails here, and not for want of a library later.
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
        --requirement requirements-serve.txt


FROM python:3.11.14-slim-bookworm

# Nothing is installed after this. A volume at /feedback takes its owner from here.
RUN python -m pip uninstall --yes pip setuptools wheel \
    && install --directory --owner 10001 --group 10001 /feedback

WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY models ./models
COPY src ./src

# The root file system may be read-only: no bytecode is written, and there is no home to write to.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    PLATES_HOST=0.0.0.0 \
    PLATES_PORT=8080

EXPOSE 8080
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PLATES_PORT\"]}/readyz', timeout=3)"]

CMD ["python", "-m", "src.serve"]
