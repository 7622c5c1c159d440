# What watches cameras: docker build -f docker/watch.Dockerfile -t swiss-plate-reader-watch:0.2.0 .

FROM python:3.11.14-slim-bookworm AS build

WORKDIR /build
COPY requirements-watch.txt ./
# Wheels alone: what would have to be compiled fails here, and not for want of a library later.
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
        --requirement requirements-watch.txt


FROM python:3.11.14-slim-bookworm

# Nothing is installed after this. A volume at /outbox takes its owner from here.
RUN python -m pip uninstall --yes pip setuptools wheel \
    && install --directory --owner 10001 --group 10001 /outbox

WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY models ./models
COPY src ./src

# The root file system may be read-only: no bytecode is written, and there is no home to write to.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp

# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001

# Sources and sinks follow: docker run … gate=rtsp://camera.example/live --json
ENTRYPOINT ["python", "-m", "src.watch"]
CMD ["--help"]
