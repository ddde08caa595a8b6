"""Architecture and features of the target, for other machines too."""

import pytest
from llvmlite import binding

from fastnn.core.simd.target import PROCESSOR, fuses, processor_of

TRIPLES = {
    "x86_64-unknown-linux-gnu": "x86_64",
    "x86_64-pc-windows-msvc": "x86_64",
    "x86_64-apple-darwin23.1.0": "x86_64",
    "amd64-unknown-freebsd": "x86_64",
    "aarch64-unknown-linux-gnu": "aarch64",
    "aarch64-pc-windows-msvc": "aarch64",
    "arm64-apple-darwin24.0.0": "aarch64",
    "arm64e-apple-darwin": "aarch64",
    "ARM64-pc-windows-msvc": "aarch64",
    "powerpc64le-unknown-linux-gnu": "powerpc64le",
    "i686-pc-windows-msvc": "i686",
}


@pytest.mark.parametrize("triple", TRIPLES)
def test_processors_are_known_by_llvms_name(triple):
    assert processor_of(triple) == TRIPLES[triple]


def test_this_processor_is_the_one_that_is_compiled_for():
    assert processor_of(binding.get_default_triple()) == PROCESSOR


@pytest.mark.parametrize(
    ("processor", "features", "expected"),
    [
        ("aarch64", set(), True),  # a Mac, or NUMBA_CPU_NAME=generic: no features are named
        ("aarch64", {"neon", "fp-armv8"}, True),
        ("x86_64", {"fma", "avx2"}, True),
        ("x86_64", {"fma4", "avx"}, False),
        ("x86_64", {"neon"}, False),
        ("x86_64", set(), False),
        ("riscv64", set(), False),
    ],
)
def test_arm64_fuses_whatever_llvm_names(processor, features, expected):
    assert fuses(processor, frozenset(features)) is expected
