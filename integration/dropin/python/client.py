"""Sends messages and asks for status and counters, with the code that Thrift makes of scribe.thrift.

Usage: client.py PORT. The exit status is 0 if every answer is what Scribe's would be.
"""

import sys

from thrift.protocol import TBinaryProtocol
from thrift.transport import TSocket, TTransport

from fb303.ttypes import fb_status
from scribe import scribe
from scribe.ttypes import LogEntry, ResultCode


def check(what, got, want):
    if got != want:
        sys.exit("%s: %r, want %r" % (what, got, want))


def main(port):
    for form, strict in ("strict", True), ("old", False):
        transport = TTransport.TFramedTransport(TSocket.TSocket("127.0.0.1", port))
        protocol = TBinaryProtocol.TBinaryProtocol(transport, strictRead=False, strictWrite=strict)
        client = scribe.Client(protocol)
        transport.open()
        check("no messages", client.Log([]), ResultCode.OK)
        for n in range(2):
            entry = LogEntry(category="python", message="%s-%d" % (form, n))
            check("Log", client.Log([entry]), ResultCode.OK)
        check("status", client.getStatus(), fb_status.ALIVE)
        check("details", client.getStatusDetails(), "")
        check("name", client.getName(), "Scribe")
        counters = client.getCounters()
        check("counter", counters["python:received good"], 2 if strict else 4)
        check("overall", counters["scribe_overall:received good"], 2 if strict else 4)
        check("one counter", client.getCounter("python:received good"), 2 if strict else 4)
        transport.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
