#!/bin/sh
# Files made here, decoded by an emulated Haswell of 2013 (AVX2 without VNNI) and by two emulated 64-bit Arm cores, with
# and without dot products: every latent must be the same. It brings what it needs: qemu-user (Debian, as root), an Arm
# Python and PyPI's Arm wheels, 1.5 GB in FOLDER. Compiling the kernels there takes most of its time, once.
#
#     scripts/emulated.sh FOLDER PICTURES [further options of scripts/exchange.py]
set -eu
folder=$(realpath -m "$1") pictures=$2
shift 2
here=$(dirname "$(dirname "$(realpath "$0")")")
python=$here/.venv/bin/python
arm=$folder/arm wheels=$folder/wheels

command -v qemu-aarch64 > /dev/null || apt-get install -y -q qemu-user
if [ ! -d "$arm/usr/lib/python3.11" ]; then
    mkdir -p "$folder/packages" "$folder/lists/partial" "$arm"
    options="-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists=$folder/lists"
    apt-get $options update -q
    (cd "$folder/packages" && apt-get $options download -q \
        python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 libexpat1 zlib1g \
        libssl3 libffi8 libbz2-1.0 liblzma5 libuuid1)
    for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$arm"; done
fi
if [ ! -d "$wheels/torch" ]; then
    # without what pip takes this machine to need: CUDA
    python3 -m pip install -q --target "$wheels" --no-deps --python-version 3.11 --implementation cp \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
        --platform manylinux_2_17_aarch64 torch==2.9.1 typing_extensions filelock fsspec sympy mpmath networkx \
        jinja2 markupsafe numpy einops numba llvmlite pillow safetensors
fi
rm -rf "$folder/mambaic"
"$python" -m pip install -q --no-deps --target "$folder/mambaic" "$here"
paths=$folder/mambaic:$wheels
of_arm() { echo "env PYTHONPATH=$paths qemu-aarch64 -cpu $1 -L $arm $arm/usr/bin/python3.11"; }
# with AVX2, NumPy's tanh is wrong in qemu 7.2
haswell="env NPY_DISABLE_CPU_FEATURES='AVX2 FMA3' qemu-x86_64 -cpu Haswell $python"
exec "$python" "$here/scripts/exchange.py" "$pictures" --only-python \
    --python "Haswell, emulated=$haswell" \
    --python "Arm with dot products, emulated=$(of_arm max)" \
    --python "Arm without dot products, emulated=$(of_arm cortex-a57)" "$@"
