#!/usr/bin/env bash
# Environments of the packages that benchmarks.speed compares with: install.sh [FOLDER [NAME...]].
# One virtual environment a package. The project's torch is named in each pip command, so that a package that wants
# another one fails instead of bringing it.
set -euo pipefail

folder=${1:-$HOME/.cache/molformer/peers}
shift || true
TORCH=${TORCH:-torch==2.13.0}
PYTHON=${PYTHON:-python3}

release() {
    case $1 in
        se3-transformer-pytorch) echo 0.9.0 ;;
        equiformer-pytorch) echo 0.5.4 ;;
        torchmd-net) echo 3.1.0 ;;
        mace-torch) echo 0.3.16 ;;
        *) echo "there is no peer '$1'" >&2; return 1 ;;
    esac
}

[ $# -gt 0 ] || set -- se3-transformer-pytorch equiformer-pytorch torchmd-net mace-torch
mkdir -p "$folder"
for name in "$@"; do
    version=$(release "$name")
    echo "$name $version: $folder/$name"
    test -x "$folder/$name/bin/python" || "$PYTHON" -m venv "$folder/$name"
    pip=("$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check)
    # torch first: some packages read it while they are built
    "${pip[@]}" "$TORCH" numpy && "${pip[@]}" "$TORCH" "$name==$version" || echo "$name could not be installed" >&2
done
