# The image of the service; docs/deploy.md says how to use it. Two targets:
#   cpu  the default: docker build --tag pcdm .
#   gpu  docker build --target gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 --tag pcdm:gpu .
# It needs no BuildKit. A classic builder makes every target down to the asked one, so both share one `build`.

# The Python of requirements.lock; any image of a Debian with this Python and its venv module will do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# The package index that torch comes from, and nothing else does: it decides between builds for CPU and for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
COPY requirements.lock ./
ENV PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CONSTRAINT=/build/requirements.lock
RUN python -m venv --without-pip /opt/pcdm \
    && pip --python /opt/pcdm/bin/python install --no-deps --index-url "$TORCH_INDEX" torch
# In the order of how often it changes: torch, the other dependencies, the code.
COPY pyproject.toml ./
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
               print(*project["dependencies"], *project["optional-dependencies"]["otel"], sep="\n")' >dependencies.txt \
    && pip --python /opt/pcdm/bin/python install --requirement dependencies.txt
# .dockerignore admits what belongs into the image, and nothing else.
COPY . .
# Packages bring their own tests, torch also headers: a seventh of the whole, and of no use here.
RUN pip --python /opt/pcdm/bin/python install --no-deps . \
    && cd /opt/pcdm/lib/python3*/site-packages \
    && rm -rf torch/test torch/include \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find . -type d -name tests -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="pcdm" \
      org.opencontainers.image.description="An out-of-distribution gate for image models" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /srv/pcdm
# All that may be written is /tmp: large uploads wait there.
ENV PATH=/opt/pcdm/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp \
    PROMETHEUS_DISABLE_CREATED_SERIES=true \
    PCDM_HOST=0.0.0.0 \
    PCDM_PORT=8000
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
# On SIGTERM the server refuses new requests and finishes those it has: give it time (docker stop -t).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-S", "/usr/local/lib/pcdm/healthcheck.py"]
CMD ["pcdm", "serve"]
# Last, as a classic builder copies what is there for every line that follows. All files belong to root.
COPY deploy/healthcheck.py /usr/local/lib/pcdm/healthcheck.py
COPY weights/cifar10-haar weights/cifar10-haar
COPY --from=build /opt/pcdm /opt/pcdm

# Never built here: there was no GPU to try it on. TORCH_INDEX must name an index of CUDA builds (see the top).
FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS cpu
