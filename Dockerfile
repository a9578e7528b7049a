# The image of every molar command; without another one it serves: docs/deploy.md.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/molar
# Without CUDA, which would add gigabytes. Where there is a GPU, build with --build-arg TORCH=https://pypi.org/simple
ARG TORCH=https://download.pytorch.org/whl/cpu
RUN /opt/molar/bin/pip install --index-url "$TORCH" "torch>=2.13" "torchvision>=0.28"
WORKDIR /src
COPY . .
RUN /opt/molar/bin/pip install .

FROM python:3.11-slim
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
