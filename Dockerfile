# One file, two images: `--target service` (the reference service and its migrations) and
# `--target operator`. Final stages hold a virtual environment and source, nothing that builds.
ARG PYTHON=python:3.13-slim

# The wheel of tidegate, and the tools that made it.
FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.lock requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY app/tidegate app/tidegate
COPY migrations-job/tidegate_migrate migrations-job/tidegate_migrate
COPY operator/tidegate_operator operator/tidegate_operator
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM ${PYTHON} AS build-service
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/service.lock /requirements/
# --without-pip: the tool that fills the environment stays outside of it.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install \
        --require-hashes -r /requirements/service.lock
COPY --from=build /dist /dist
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --no-deps /dist/*.whl
COPY app/orders /srv/orders
COPY migrations-job/orders /srv/migrations
# The service judges a schema by the revisions that its own image ships.
RUN PYTHONPATH=/srv /opt/venv/bin/tidegate migrate manifest \
        --config /srv/migrations/alembic.ini --output /srv/migrations/manifest.json \
    && /opt/venv/bin/python -m compileall -q /srv

FROM ${PYTHON} AS build-operator
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/operator.lock /requirements/
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install \
        --require-hashes -r /requirements/operator.lock
COPY --from=build /dist /dist
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --no-deps /dist/*.whl

FROM ${PYTHON} AS operator
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build-operator /opt/venv /opt/venv
USER 10001:10001
CMD ["tidegate-operator"]

FROM ${PYTHON} AS service
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/srv PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    ALEMBIC_CONFIG=/srv/migrations/alembic.ini TIDEGATE_MANIFEST=/srv/migrations/manifest.json
COPY --from=build-service /opt/venv /opt/venv
COPY --from=build-service /srv /srv
WORKDIR /srv
USER 10001:10001
EXPOSE 8000 9000
CMD ["tidegate", "serve", "orders.main:app"]
