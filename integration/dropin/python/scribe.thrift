// The interface as the original's clients have it: thrift/idl/scribe.thrift without what is ours.
// The code beside it is made by Thrift 0.17:
//   thrift -r --gen py -I ../../../thrift/idl -out . scribe.thrift

include "fb303.thrift"

enum ResultCode {
  OK,
  TRY_LATER,
}

struct LogEntry {
  1: string category,
  2: string message,
}

service scribe extends fb303.FacebookService {
  ResultCode Log(1: list<LogEntry> messages),
}
