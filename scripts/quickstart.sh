#!/bin/sh
# Trains a network on handwritten digits and compares it with scikit-learn: sh scripts/quickstart.sh
# The first run makes .venv and installs fastnn there; later runs start at once. Arguments go to
# scripts/train_mnist.py: --data DIR or --fetch for the real MNIST, --help for the rest.
# (Where there is no sh: python scripts/quickstart.py)
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/scripts/_venv.sh"
find_python "$root/.venv"
exec "$base" "$root/scripts/quickstart.py" "$@"
