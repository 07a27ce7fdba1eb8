# shellcheck shell=bash
# Sourced by run.sh and coverage.sh, in the project's root: builds the targets with clang.

# fuzz_build FOLDER
fuzz_build() {
    if ! { cmake -S . -B "$1" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DCMAKE_C_COMPILER=clang -DPFX_WERROR=ON -DPFX_FUZZ=ON &&
        cmake --build "$1" --target fuzz; } >"$1/build.log" 2>&1; then
        tail -n 30 "$1/build.log"
        return 1
    fi
}
