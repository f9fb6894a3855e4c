#!/usr/bin/env bash
# Builds llama-server from llama-cpp-python's source package, the same version as benchmarks/requirements-llamacpp.txt,
# into .venv-llamacpp/bin (10 to 20 minutes on 2 cores). Arguments: none; JOBS, the number of compilers at once.
set -euo pipefail

cd "$(dirname "$0")/.."
environment="$PWD/.venv-llamacpp"
version=$(sed -n 's/^llama-cpp-python==//p' benchmarks/requirements-llamacpp.txt)
work=${TMPDIR:-/tmp}/llama-server-$version
export PATH="$PWD/.venv/bin:$PATH" # its cmake and ninja, where the machine has none

mkdir -p "$work"
if ! ls "$work"/llama_cpp_python-*/vendor/llama.cpp/CMakeLists.txt >/dev/null 2>&1; then
	"$environment/bin/python" -m pip --disable-pip-version-check download -q --no-deps --no-binary llama-cpp-python \
		--dest "$work" "llama-cpp-python==$version"
	tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
fi
source=$(dirname "$work"/llama_cpp_python-*/vendor/llama.cpp/CMakeLists.txt)

# For this processor, as the Python package is built; static, so that one file is the server. No TLS and no web page:
# neither is measured, and both ask for more packages.
cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
	-DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
	-DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_WEBUI=OFF -DLLAMA_BUILD_UI=OFF
ninja -C "$work/build" -j "${JOBS:-$(nproc)}" llama-server

install "$work/build/bin/llama-server" "$environment/bin/llama-server.partial"
mv "$environment/bin/llama-server.partial" "$environment/bin/llama-server"
"$environment/bin/llama-server" --version
