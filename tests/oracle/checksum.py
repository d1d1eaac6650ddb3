"""CRC-64 as oss2 computes it (crcmod), not as the package does (anycrc)."""

from __future__ import annotations

import crcmod

crc64_of = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF)
