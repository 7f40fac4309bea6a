// fb303: what every Facebook service of Scribe's time answers about itself.
// Names, numbers and field ids are those of the original: they are the wire.

namespace go fb303

enum fb_status {
  DEAD = 0,
  STARTING = 1,
  ALIVE = 2,
  STOPPING = 3,
  STOPPED = 4,
  WARNING = 5,
}

service FacebookService {
  string getName(),
  string getVersion(),

  fb_status getStatus(),

  // Why the status is what it is, for people; empty when all is well.
  string getStatusDetails(),

  map<string, i64> getCounters(),

  // 0 for a counter that is not there.
  i64 getCounter(1: string key),

  // Options are a map of strings that nothing reads.
  void setOption(1: string key, 2: string value),
  string getOption(1: string key),
  map<string, string> getOptions(),

  // Always empty: profiles come from the HTTP side.
  string getCpuProfile(1: i32 profileDurationInSec),

  // Seconds since 1970 UTC.
  i64 aliveSince(),

  // Read the configuration again. Never answered.
  oneway void reinitialize(),

  // Store what is queued and end. Never answered.
  oneway void shutdown(),
}
