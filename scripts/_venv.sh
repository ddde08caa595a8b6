# Sourced by quickstart.sh and test.sh, which set $root. Makes a virtual environment once and says
# whether it still fits: its stamp holds a checksum of pyproject.toml, the place of this checkout
# (the package is installed in place, so a copied environment would import the original) and the extras.
# Sets $python. FASTNN_PYTHON=/path/to/python uses that interpreter as it is and makes no environment.
# shellcheck shell=sh

find_python() {
    for name in python3.13 python3.12 python3.11 python3 python; do
        # Asked by running it: a version manager's placeholder may stand on the path and fail.
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    echo "error: no Python 3.11 or newer with its venv module was found." >&2
    echo "       Install one (Debian, Ubuntu: python3 and python3-venv) and run this again." >&2
    return 1
}

# use_venv FOLDER EXTRAS [PIN...]: $python becomes FOLDER's interpreter, with fastnn[EXTRAS] and the pins installed.
use_venv() {
    venv=$1
    extras=$2
    shift 2
    if [ -n "${FASTNN_PYTHON:-}" ]; then
        python=$FASTNN_PYTHON
        PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
        export PYTHONPATH
        return 0
    fi
    python=$venv/bin/python
    stamp=$venv/fastnn-stamp
    key="$(cksum <"$root/pyproject.toml") $root $*"
    if [ -f "$stamp" ] && "$python" -c '' 2>/dev/null; then
        case "$(cat "$stamp")" in
        "$key [${extras}]" | "$key ["*",${extras}]") return 0 ;;
        esac
    fi
    base=$(find_python) || return 1
    echo "Setting up ${venv#"$root"/} with $("$base" --version) (once; a minute or two) ..."
    rm -f "$stamp"
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        rm -rf "$venv"
        "$base" -m venv "$venv" || return 1
    fi
    "$python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extras]" "$@" || return 1
    printf '%s\n' "$key [$extras]" >"$stamp"
}
