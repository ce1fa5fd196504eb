"""Publishes Spark DataFrames as tables of nacre: see :func:`publish`."""

from .client import NacreError, Problem
from .publish import DEFAULT_GUARDS, FileReport, LoadFailed, LoadUnknown, PublishReport, publish

__all__ = [
    "DEFAULT_GUARDS",
    "FileReport",
    "LoadFailed",
    "LoadUnknown",
    "NacreError",
    "Problem",
    "PublishReport",
    "publish",
]
__version__ = "0.1.0"
