#!/usr/bin/env bash
# Installs SAM 3D Objects and sc3d into the active environment of sam3d.yml. Run it on a node with a GPU, or set TORCH_CUDA_ARCH_LIST.
# Usage: cluster/environments/sam3d.sh [folder for upstream's source, ~/sam-3d-objects]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source=${1:-$HOME/sam-3d-objects}

# SAM License: https://github.com/facebookresearch/sam-3d-objects/blob/main/LICENSE
if [ ! -d "$source" ]; then
  git clone https://github.com/facebookresearch/sam-3d-objects "$source"
fi
git -C "$source" checkout --quiet cf066761706cd02b07e2fc6274570ec8cdafb683

export CUDA_HOME=$CONDA_PREFIX FORCE_CUDA=1
# Upstream's doc/setup.md names the indexes that its packages come from.
: "${PIP_EXTRA_INDEX_URL:?set it to the indexes of torch (cu121) and of NVIDIA, as upstream's doc/setup.md says}"
: "${PIP_FIND_LINKS:?set it to the wheels of kaolin for torch 2.5.1 and cu121, as upstream's doc/setup.md says}"
# What sam3d.yml chose stays, whatever upstream's requirements ask for. Without isolation, what is built finds torch.
constraints=$(mktemp)
python -m pip freeze | grep -iE '^(torch|torchvision|numpy|ray|pyarrow|pydantic)==' > "$constraints"
pip install -c "$constraints" -e "$source[dev]"
pip install -c "$constraints" --no-build-isolation -e "$source[p3d]"
pip install -c "$constraints" --no-build-isolation -e "$source[inference]"
# Upstream's patch of hydra, which it downloads.
python "$source/patching/hydra"

# One compiled module in one process: upstream's Open3D, which has CUDA in it, and sc3d's, which has not, cannot both be loaded.
pip uninstall --yes open3d
pip install --no-deps open3d-cpu==0.19.0
pip install --no-deps "$root"

# Upstream takes the code and the weights of DINOv2 from torch.hub: here once, not in every actor (TORCH_HOME, if set). The code is that of
# a commit, in the folder in which torch.hub keeps its newest.
hub=$(python -c "import torch; print(torch.hub.get_dir())")
if [ ! -d "$hub/facebookresearch_dinov2_main" ]; then
  git clone https://github.com/facebookresearch/dinov2 "$hub/facebookresearch_dinov2_main"
fi
git -C "$hub/facebookresearch_dinov2_main" checkout --quiet b8931f7bf91576930313be2c6d6af376033b35f0
python -c "import torch; torch.hub.load('facebookresearch/dinov2', 'dinov2_vitl14_reg', trust_repo=True)"
