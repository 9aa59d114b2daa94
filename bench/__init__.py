"""Benchmarks, installed as `harpoon_bench`: every figure is a ratio taken in one run."""
