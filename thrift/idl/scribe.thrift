// Scribe's interface. Names, numbers and field ids are those of the original:
// they are the wire. BatchId is ours; a server that does not know it skips it.

include "fb303.thrift"

namespace go scribe

enum ResultCode {
  OK,
  TRY_LATER,
}

// Both are bytes of any kind.
struct LogEntry {
  1: string category,
  2: string message,
}

// By which a client that numbers its calls makes its own retry recognisable:
// the same call carries the same id every time it is sent.
struct BatchId {
  1: optional string producer, // 1 to 256 bytes; without it there is no id
  2: optional i64 epoch,
  3: optional i64 sequence,
}

service scribe extends fb303.FacebookService {
  // The list is taken whole or refused whole. The second argument may be left out.
  ResultCode Log(1: list<LogEntry> messages, 2: BatchId batch),
}
