# One image for every command: ampd worker, admin, exporter, migrate, and ampctl.
#
#   docker build -t amp-worker-management \
#     --build-arg VERSION="$(git describe --tags --always --dirty)" --build-arg COMMIT_SHA="$(git rev-parse HEAD)" \
#     --build-arg COMMIT_TIMESTAMP="$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)" \
#     --build-arg BUILD_DATE="$(date -u +%Y-%m-%dT%H:%M:%SZ)" .

FROM python:3.11.13-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/amp
COPY pyproject.toml constraints.txt build_stamp.py README.md LICENSE ./
COPY amp_workers amp_workers
COPY admin admin
COPY ampd ampd
COPY ctl ctl
COPY exporter exporter
COPY metadata_db metadata_db
COPY web web
COPY worker worker
RUN PIP_CONSTRAINT=constraints.txt /opt/amp/bin/pip install --no-cache-dir .

FROM python:3.11.13-slim-bookworm
# What a worker registers with: there is no git in here to ask. An empty one is unknown.
ARG VERSION="" COMMIT_SHA="" COMMIT_TIMESTAMP="" BUILD_DATE=""
ENV AMP_BUILD_VERSION=$VERSION \
    AMP_BUILD_COMMIT_SHA=$COMMIT_SHA \
    AMP_BUILD_COMMIT_TIMESTAMP=$COMMIT_TIMESTAMP \
    AMP_BUILD_DATE=$BUILD_DATE \
    PATH=/opt/amp/bin:$PATH
COPY --from=build /opt/amp /opt/amp
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 1610 9610
CMD ["ampd", "--help"]
