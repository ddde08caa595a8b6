# Sourced by quickstart.sh and test.sh, which set $root: finds a Python for scripts/_venv.py, which makes environments.
# shellcheck shell=sh

# find_python FOLDER: $base becomes an interpreter that is new enough: FASTNN_PYTHON, that of the environment FOLDER if
# it works, or one with which an environment can be made.
find_python() {
    base=${FASTNN_PYTHON:-}
    [ -z "$base" ] || return 0
    for name in "$1/bin/python" python3.14 python3.13 python3.12 python3.11 python3 python; do
        # Asked by running it: a version manager's placeholder may stand on the path and fail.
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            base=$(command -v "$name")
            return 0
        fi
    done
    echo "error: no Python 3.11 or newer with its venv module was found." >&2
    echo "       Install one (Debian, Ubuntu: python3 and python3-venv) and run this again." >&2
    return 1
}
