# Two stages: the first installs from the hash-pinned lock, the second carries only the result.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/kpisync
COPY requirements.lock ./
RUN /opt/kpisync/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY config ./config
COPY connectors ./connectors
COPY metrics ./metrics
COPY sandbox ./sandbox
COPY store ./store
COPY worker ./worker
RUN /opt/kpisync/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/kpisync --create-home kpisync
COPY --from=build /opt/kpisync /opt/kpisync
ENV PATH=/opt/kpisync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KPISYNC_CONFIG=/etc/kpisync/kpisync.yaml
# Workers start in a directory without a stray config.py, which would shadow the package.
WORKDIR /var/lib/kpisync
USER 10001
ENTRYPOINT ["kpisync"]
CMD ["--help"]
