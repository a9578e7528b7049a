# The image of every molar command; without another one it serves: docs/deploy.md.
# Python 3.11.17 on Debian 13, of 2026-10-01, for all its platforms; CONTRIBUTING.md says how to take a newer one.
FROM python:3.11.17-slim@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51 AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements requirements
# Without CUDA, which would add gigabytes. Where there is a GPU, build with --build-arg TORCH=https://pypi.org/simple
ARG TORCH=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/build && python -m venv /opt/molar \
    && /opt/build/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/build.lock \
    && /opt/molar/bin/pip install --require-hashes --no-deps --only-binary :all: --index-url "$TORCH" -r requirements/torch.lock \
    && /opt/molar/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/runtime.lock \
    && (/opt/molar/bin/pip check || /opt/molar/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/cuda.lock)
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/molar/bin/pip install --no-deps --no-index /tmp/wheel/*.whl && /opt/molar/bin/pip check

FROM python:3.11.17-slim@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin molar \
    && install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/molar /opt/molar
ENV PATH=/opt/molar/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp \
    MOLAR_WORKSPACE=/data/.molar MOLAR_SERVE_HOST=0.0.0.0
# The shop: .molar, molar.toml, rules.toml, the catalogue. All else may be read-only, with a /tmp in memory.
VOLUME /data
WORKDIR /data
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["molar"]
CMD ["serve"]
