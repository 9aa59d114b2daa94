"""Harpoon: from a Bitcoin mempool transaction to an order on an exchange's wire."""

from importlib.metadata import version

__version__ = version("harpoon-engine")
