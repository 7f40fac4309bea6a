#!/usr/bin/env python3
"""Print the messages of a category from the segments of a buffer directory.

usage: segments.py DIRECTORY CATEGORY

Reads *.seg (not the shipped ones) as docs/formats describes them, and shares
no code with the program that writes them. Both checksums of every record are
verified; what does not verify is named on standard error, and exit is 3 where
that was not just the end of a file. Each message goes to standard output with
its line feed.
"""
import os
import struct
import sys

TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def records(data, salt, end, sealed):
    """Yield (offset, body) of records, and (offset, None) where damage ends."""
    at, due, sound = 64, 1, True
    while at + 24 < end:
        magic, length, number, head_sum, body_sum = struct.unpack_from("<IIQII", data, at)
        body = data[at + 24 : at + 24 + length]
        if (
            magic == 0x52435331
            and at + 24 + length <= end
            and number >= due
            and crc32c(salt + data[at : at + 16]) == head_sum
            and crc32c(salt + data[at + 8 : at + 16] + body) == body_sum
        ):
            if number > due or not sound:
                yield at, None
            yield at, body
            at, due, sound = at + (24 + length + 7) // 8 * 8, number + 1, True
        else:
            at, sound = at + 8, False
    if sealed and (at < end or not sound):
        yield end, None


def messages(body, category):
    version, _, partition_len = struct.unpack_from("<BBH", body)
    category_len, note_len, senders, ids, count, size = struct.unpack_from("<6I", body, 24)
    if version == 1 and body[56 : 56 + category_len] == category:
        ends = struct.unpack_from("<%dI" % count, body, len(body) - size - 4 * count)
        text = body[len(body) - size :]
        for start, stop in zip((0,) + ends, ends):
            yield text[start:stop]


def main(directory, category):
    damaged = False
    for name in sorted(n for n in os.listdir(directory) if n.endswith(".seg")):
        with open(os.path.join(directory, name), "rb") as f:
            data = f.read()
        salt, end = struct.pack("<Q", int(name.split(".")[-2], 16)), len(data)
        sealed = data[-64:-56] == b"SCRBEND1" and struct.pack("<I", crc32c(salt + data[-64:-4])) == data[-4:]
        if sealed:
            end = struct.unpack_from("<Q", data, len(data) - 24)[0]
        for at, body in records(data, salt, end, sealed):
            if body is None:
                print("%s: damage before byte %d" % (name, at), file=sys.stderr)
                damaged = True
                continue
            for message in messages(body, category):
                sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()
    return 3 if damaged else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], os.fsencode(sys.argv[2])))
