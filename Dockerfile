# One image for every command: ampd migrate, worker, admin, exporter, and ampctl. Built by: make image
#
# It has no PostgreSQL. Without the build arguments that `make image` passes, the version is unknown: .git is not copied.

FROM python:3.11.13-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/amp
# The dependencies are a layer of their own: a change of the code alone does not download them again.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt \
    && /opt/amp/bin/pip install --no-cache-dir -c constraints.txt -r requirements.txt
COPY build_stamp.py README.md LICENSE ./
COPY amp_workers amp_workers
COPY admin admin
COPY ampd ampd
COPY ctl ctl
COPY exporter exporter
COPY metadata_db metadata_db
COPY web web
COPY worker worker
# The version, the commit and the times that a worker registers with: the build writes them into the package.
ARG VERSION="" COMMIT_SHA="" COMMIT_TIMESTAMP="" BUILD_DATE=""
RUN AMP_BUILD_VERSION=$VERSION AMP_BUILD_COMMIT_SHA=$COMMIT_SHA \
        AMP_BUILD_COMMIT_TIMESTAMP=$COMMIT_TIMESTAMP AMP_BUILD_DATE=$BUILD_DATE PIP_CONSTRAINT=constraints.txt \
        /opt/amp/bin/pip install --no-cache-dir --no-deps . \
    && /opt/amp/bin/pip uninstall --yes pip setuptools

FROM python:3.11.13-slim-bookworm
ARG VERSION="" COMMIT_SHA="" BUILD_DATE=""
LABEL org.opencontainers.image.title="amp-worker-management" \
      org.opencontainers.image.description="Worker management for an Amp fleet: ampd worker, admin, exporter, migrate; ampctl" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT_SHA \
      org.opencontainers.image.created=$BUILD_DATE
ENV PATH=/opt/amp/bin:$PATH
COPY --from=build /opt/amp /opt/amp
# A number, so that Kubernetes can verify that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 1610 9610
CMD ["ampd", "--help"]
