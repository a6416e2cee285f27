"""Controllers: what watches a training and acts on its learning rate."""

from torchpace.control._snapshot import Snapshot

__all__ = ["Snapshot"]
