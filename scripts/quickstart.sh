#!/bin/sh
# Trains a network on handwritten digits and compares it with scikit-learn: sh scripts/quickstart.sh
# The first run makes .venv and installs fastnn there; later runs start at once. Arguments go to
# scripts/train_mnist.py: --data DIR or --fetch for the real MNIST, --help for the rest.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/scripts/_venv.sh"
use_venv "$root/.venv" plot
exec "$python" "$root/scripts/train_mnist.py" "$@"
