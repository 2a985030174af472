# The head and all workers but those of SAM 3D Objects, with and without GPUs.
#
#   docker build -f cluster/images/main.Dockerfile -t sc3d .
#
# PyPI's torch for Linux runs on CPUs and on NVIDIA GPUs. For nodes without GPUs the CPU build saves about 4 GB:
#   docker build -f cluster/images/main.Dockerfile --build-arg TORCH_INDEX=<PyTorch's index of CPU wheels> -t sc3d:cpu .
#
# Python's minor version is that of cluster/environments/sam3d.yml: Ray lets no others into one cluster.
#
# What the tag names can change; a digest cannot: --build-arg BASE=python:3.11-slim-bookworm@sha256:... (docs/cluster.md).
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# wget is what health probes of older KubeRay call, rsync and ssh are what Ray's launcher copies files with; the libraries are those that
# Open3D is linked with.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends wget rsync openssh-client ca-certificates git libgomp1 libx11-6 libgl1 libegl1 libudev1 libidn2-0 \
 && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor \
    RAY_USAGE_STATS_ENABLED=0

# What changes seldom comes first: torch and the other dependencies, then sc3d.
ARG TORCH_INDEX=""
COPY constraints.txt pyproject.toml README.md LICENSE /opt/sc3d/
RUN pip install -c /opt/sc3d/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch "ray[default]"
COPY sc3d /opt/sc3d/sc3d
COPY actors /opt/sc3d/actors
COPY pipelines /opt/sc3d/pipelines
COPY training /opt/sc3d/training
COPY cluster /opt/sc3d/cluster
RUN pip install -c /opt/sc3d/constraints.txt "/opt/sc3d[s3,foundation,transport]"

# Compiled loops, for any x86-64 or ARM processor: containers cannot write here, so sc3d copies them to the home once (sc3d/kernels.py).
ENV NUMBA_CPU_NAME=generic \
    SC3D_KERNELS=/opt/sc3d/kernels
RUN cd / && python -m sc3d.kernels_ahead "$SC3D_KERNELS"

RUN useradd --create-home --uid 1000 ray
USER 1000
# Ray's launcher asks the image for it.
ENV HOME=/home/ray
WORKDIR /home/ray
CMD ["sc3d", "--help"]
