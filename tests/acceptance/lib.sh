# shellcheck shell=bash
# lib.sh - what the acceptance scripts in bash share. Source it.
#
#   cma_copy_tree FROM TO     the tracked files of a clone, as they are in its work tree
#   cma_configure TREE        a debug build of the program alone, in TREE/build
#   cma_build TREE            build it; says nothing unless it fails

cma_copy_tree()
{
    mkdir -p "$2" && (cd "$1" && git ls-files -z | xargs -0 cp --parents -t "$2" --)
}

cma_quietly()
{
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    tail -n 40 "$log" >&2
    rm -f "$log"
    return 1
}

cma_configure()
{
    cma_quietly cmake -S "$1" -B "$1/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCM_CRASH_POINTS=ON \
        -DCM_TESTS=OFF -DCM_BENCH=OFF
}

cma_build()
{
    cma_quietly nice cmake --build "$1/build" -j2 --target client-manager
}
