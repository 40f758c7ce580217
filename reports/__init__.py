"""Reports, made from run folders alone: nothing here imports torch or sees a model."""

from robustcode.reports.render import report

__all__ = ["report"]
