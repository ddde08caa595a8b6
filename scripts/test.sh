#!/bin/sh
# Runs the checks and the tests: sh scripts/test.sh [--all | --arm] [pytest arguments]
# The first run makes .venv and installs what is needed; later runs start at once. Two processes share the tests
# (-n 0: one has them all). Tests marked slow are left out. (Where there is no sh: python scripts/run_tests.py)
# --all runs them too, among them every worked example in full where its data are (FASTNN_DATA), then repeats the other
# tests under AVX2, with bounds checks, without the compiler (tests marked nojit), on each threading layer and on the
# oldest supported versions. --arm runs a selection on an emulated ARM64 processor, see scripts/_arm.py.
# Ends with pytest's closing line (--all: one for each mode); the exit status is pytest's, or that of ruff or mypy where
# only they fail.
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/scripts/_venv.sh"
cd "$root" || exit 1
find_python "$root/.venv" || exit 1

case "${1:-}" in
--all) shift ;;
--arm)
    shift
    exec "$base" "$root/scripts/_arm.py" "$@"
    ;;
*) exec "$base" "$root/scripts/run_tests.py" "$@" ;;
esac

python=$("$base" "$root/scripts/_venv.py" .venv test,plot) || exit 1
if [ -n "${FASTNN_PYTHON:-}" ]; then
    PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
fi
status=0
"$base" "$root/scripts/run_tests.py" --checks || status=$?
PYTEST_ADDOPTS="--numprocesses=2 --dist=loadfile ${PYTEST_ADDOPTS:-}" # as in run_tests.py
export PYTEST_ADDOPTS

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# mode NAME [VARIABLE=VALUE...] COMMAND: runs pytest's COMMAND with those variables and keeps its closing line.
# Each mode compiles into an empty cache of its own: Numba's key does not know, for one, the bounds checks.
mode() {
    name=$1
    shift
    printf '\n===== %s =====\n' "$name"
    {
        env "NUMBA_CACHE_DIR=$work/cache-$name" "$@" 2>&1
        echo $? >"$work/status"
    } | tee "$work/log"
    code=$(cat "$work/status")
    closing=$(grep -E ' in [0-9.]+s' "$work/log" | tail -n 1 | sed 's/^=* *//; s/ *=*$//')
    # 5: no test was collected, which a mode of few marked tests may give.
    [ "$code" -eq 0 ] || [ "$code" -eq 5 ] || status=$code
    printf '%-12s %s\n' "$name" "${closing:-no closing line, exit status $code}" >>"$work/summary"
}

leave_out() {
    printf '\n===== %s: left out, %s =====\n' "$1" "$2"
    printf '%-12s left out: %s\n' "$1" "$2" >>"$work/summary"
}

# The layer loads where a compiled parallel loop runs on it. The loader finds pip's TBB only by $libraries.
layer_loads() {
    NUMBA_THREADING_LAYER=$1 LD_LIBRARY_PATH=$libraries "$python" - >/dev/null 2>&1 <<'PYTHON'
import numba

@numba.njit(parallel=True)
def total(n):
    s = 0
    for i in numba.prange(n):
        s += i
    return s

assert total(4) == 6 and numba.threading_layer()
PYTHON
}

mode default "$python" -m pytest "$@"
case "$(uname -m)" in
x86_64 | amd64)
    mode avx2 NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma "$python" -m pytest -m "not slow" "$@"
    ;;
*) leave_out avx2 "this is not an x86-64 machine" ;;
esac
mode bounds NUMBA_BOUNDSCHECK=1 "$python" -m pytest -m "not slow" "$@"
mode nojit NUMBA_DISABLE_JIT=1 "$python" -m pytest -m "nojit and not slow" "$@"
libraries=$("$python" -c 'import sys; print(sys.prefix + "/lib")')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for layer in omp workqueue tbb; do
    if layer_loads "$layer"; then
        mode "$layer" "NUMBA_THREADING_LAYER=$layer" "LD_LIBRARY_PATH=$libraries" "$python" -m pytest -m "not slow" "$@"
    else
        leave_out "$layer" "Numba cannot load this threading layer here"
    fi
done

# The oldest supported versions, where this Python has them (pyproject.toml states the same lower bounds).
numpy_pin=$("$python" -c 'import sys; v = sys.version_info; print("numpy==1.26.*" if v < (3, 13) else "numpy==2.1.*" if v < (3, 14) else "numpy")')
if oldest=$(FASTNN_PYTHON='' "$base" "$root/scripts/_venv.py" .venv-oldest test,plot "numba==0.63.*" "scikit-learn==1.7.*" "$numpy_pin"); then
    mode oldest "$oldest" -m pytest -m "not slow" "$@"
else
    leave_out oldest "they could not be installed"
    status=1
fi

printf '\n===== all modes =====\n'
cat "$work/summary"
exit "$status"
