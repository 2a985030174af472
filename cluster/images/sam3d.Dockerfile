# Nodes that run SAM 3D Objects, and nothing else.
#
#   docker build -f cluster/images/sam3d.Dockerfile --build-arg PIP_EXTRA_INDEX_URL=... --build-arg PIP_FIND_LINKS=... -t sc3d-sam3d .
#
# The two arguments say where torch (cu121) and kaolin come from: see upstream's doc/setup.md.
#
# A Ray worker of this image offers the resource that the actor asks for, one a GPU, and a label that keeps other actors away:
#   ray start --address=<head>:6379 --num-cpus=1 --resources='{"sam3d": 1}' --labels=sc3d.image=sam3d --block
# cluster/kuberay and cluster/aws have a group of such nodes.
# The weights are not in it: they are gated, 13 GB, and come from --set models.sam3d=<hub id, folder or s3://>.
#
# What the tag names can change; a digest cannot: --build-arg BASE=condaforge/miniforge3:24.11.3-0@sha256:... (docs/cluster.md).
ARG BASE=condaforge/miniforge3:24.11.3-0
FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# wget is what health probes of older KubeRay call, rsync and ssh are what Ray's launcher copies files with; the libraries are those of
# Open3D and Blender's module, which upstream imports.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git wget rsync openssh-client ca-certificates \
      libgl1 libegl1 libgomp1 libglib2.0-0 libsm6 libxrender1 libxext6 libxi6 libxkbcommon0 libxxf86vm1 libxfixes3 \
 && rm -rf /var/lib/apt/lists/*

ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
COPY cluster/environments/sam3d.yml /opt/sc3d/cluster/environments/sam3d.yml
RUN mamba env create --file /opt/sc3d/cluster/environments/sam3d.yml && mamba clean --all --yes

# As an activated environment has them: upstream reads CONDA_PREFIX when it is imported.
ENV CONDA_PREFIX=/opt/conda/envs/sc3d-sam3d \
    CUDA_HOME=/opt/conda/envs/sc3d-sam3d \
    PATH=/opt/conda/envs/sc3d-sam3d/bin:/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    TORCH_HOME=/opt/torch \
    RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor \
    RAY_USAGE_STATS_ENABLED=0

# GPUs that the extensions are compiled for: A100, A10 and A40, L40, H100 and H200.
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0"
COPY pyproject.toml README.md LICENSE /opt/sc3d/
COPY sc3d /opt/sc3d/sc3d
COPY actors /opt/sc3d/actors
COPY pipelines /opt/sc3d/pipelines
COPY training /opt/sc3d/training
COPY cluster /opt/sc3d/cluster
# Activation names the compilers; its scripts read variables that need not be set.
RUN set +u && source /opt/conda/etc/profile.d/conda.sh && conda activate sc3d-sam3d && set -u \
 && /opt/sc3d/cluster/environments/sam3d.sh /opt/sam-3d-objects \
 && chmod -R a+rX /opt/torch /opt/sam-3d-objects && rm -rf /root/.cache

RUN useradd --create-home --non-unique --uid 1000 ray
USER 1000
ENV HOME=/home/ray
WORKDIR /home/ray
CMD ["/bin/bash"]
