"""Every blob store passes the blobs' contract."""

from __future__ import annotations

from stook.testing.contracts.blobs import BlobsContract, DurableBlobsContract


class TestMemoryBlobs(BlobsContract):
    __test__ = True
    factory, url = "stook.backends.memory.blobs:open_blobs", "memory:"


class TestFileBlobs(DurableBlobsContract):
    __test__ = True
    factory, url = "stook.backends.files.blobs:open_blobs", "file:///deep/er/blobs"
