package conf

import (
	"fmt"
	"strings"
)

// migrationSections are the headings of the table of keys, by ScribeKey.Of.
var migrationSections = []struct{ of, title string }{
	{"server", "The server"},
	{"store", "Every store at the top level"},
	{"file multifile", "file, multifile"},
	{"buffer", "buffer"},
	{"network", "network"},
	{"bucket", "bucket"},
	{"multi", "multi"},
}

// MigrationMarkdown is docs/migrating-from-scribe.md.
func MigrationMarkdown() string {
	var b strings.Builder
	b.WriteString(ticks(migrationHead))
	for _, s := range migrationSections {
		fmt.Fprintf(&b, "\n### %s\n\n| key | becomes | |\n| --- | --- | --- |\n", s.title)
		for _, k := range scribeKeys {
			if k.Of == s.of {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Key, k.Verdict, k.Text)
			}
		}
	}
	b.WriteString(ticks(migrationTail))
	return b.String()
}

// ticks makes the quotes of code, which no raw string can hold: ~ stands for them.
func ticks(text string) string { return strings.ReplaceAll(text, "~", "`") }

const migrationHead = `# Moving over from Scribe

<!-- Made from conf/migrate_keys.go and conf/migrate_page.go by "make docs". -->

A server that runs the original Scribe runs twinscribe with the same file, on the same port. Clients, tailers, scripts and the files' readers stay as they are, and servers
of both kinds forward to each other, so a fleet moves host by host, in any order.

    twinscribe check scribe.conf     # what becomes of each key, and what is wrong with the file
    scribed -c scribe.conf           # or: twinscribe scribed -p 1463 scribe.conf

~scribed~, ~scribe_cat~ and ~scribe_ctrl~ are the same binary under those names (~ln -s twinscribe scribed~), or commands of it; their options and exit codes are
the original's. ~twinscribe check --to yaml scribe.conf~ prints the same configuration in our own
[grammar](configuration.md), whose defaults promise more: there OK means stored. Commented examples are [conf/scribe-*.conf](../conf).

## A host, step by step

1. **Check.** ~twinscribe check scribe.conf~ must end with status 0; it tells all mistakes at once, by line, and needs no server. The file's name ends in ~.conf~; ~-p 1463~ where it names no port.
   HDFS is reached without Java; the user there is ~HADOOP_USER_NAME~, or the account that the server runs as.
2. **Try it beside the original,** with a copy of the file in which ~port~ and every folder (~file_path~, on HDFS too) is another one: two servers must not share a folder, the original locks nothing.

       scribed -c trial.conf                                # port=1464: status and metrics on 127.0.0.1:14631
       echo hello | scribe_cat -h localhost:1464 web
       scribe_ctrl status 1464                              # ALIVE, exit status 2
       scribe_ctrl stop 1464                                # as root; or TERM

3. **Swap.** Wait until the original is ALIVE, then stop it with ~scribe_ctrl stop~, never with a signal: a signal, or a stop while a store fails, loses what is in its memory. Its buffers may
   hold files. Start twinscribe with the same file on the same port, as a user who may write to the same folders. Clients connect again by themselves.
4. **Look.** ~scribe_ctrl status~ and ~scribe_ctrl counters~ as before; ~twinscribe ctl status~ tells more: where each category goes, and what waits. It must name no category without a rule, and
   what the original has left in its buffers shrinks to nothing. What is not sent (a store that is not in the file any more, a name that no store has) is in the log and the status with its folder, and so is
   what a buffer of ours holds whose ~file_path~ has changed: put the store back and reload, or move the folder away.
5. **Go back,** if need be: wait until in ~twinscribe ctl status~ no messages or files wait in the spools and the buffer holds no outage and no spill (unrouted messages and dead letters stay until you
   send or forget them, below), stop it and start the original with the same file. It goes on with the highest number of each
   name. It does not read our segments: what still lies in a buffer stays there, and goes out when twinscribe runs with that file again (on another port and with the old folder as ~state=~, if the original has this one).
   Keep the [state folder](#the-state-folder) and the folders ~_twinscribe~ on HDFS: one has what waits and who the server is, and without the others ~twinscribe read~ does not know the files.

Keys that only we have (~ack~, ~state~, ~hdfs_folder~, ~http~, ~id~) do not trouble the original, which passes over them.

### The state folder

A server keeps a folder of its own: its id and books, the buffer in front of HDFS, what has no store, and what a stop stored because nothing else took it. ~twinscribe check~ tells which it is. Without ~state=~
it is the first of these that holds a state, so that it stays the same when stores are added, or else the first that the account may make:

1. ~<file_path>/_twinscribe/<port>~ in the folder of each secondary in front of HDFS, by line: what waits for HDFS is then on the disk that the file has for it;
2. ~/var/lib/twinscribe/<port>~;
3. ~<file_path>/_twinscribe/<port>~ in the folder of each other local store that the file names: buffers, then files, by line;
4. ~<XDG_STATE_HOME>/twinscribe/<port>~, by default below ~$HOME/.local/state~.

The port tells the servers of a host apart. **Who changes the port, or takes a ~file_path~ away that the folder lies in, writes ~state=~ with the old folder, or stops the server and moves the folder first.**
A warning asks for ~state=~ where the folder lies in a ~file_path~, the first start with a new folder names those of other ports beside it, and a reload that would leave the folder is refused.
If several hold a state, the first is used and a warning names the others and says how what waits in them goes out. The commands that read a configuration look in the same way; they take ~-p~ as ~scribed~ does.

## What is better

- **A stop loses nothing.** TERM, INT, fb303 shutdown and ~scribe_ctrl stop~ store everything that was acknowledged: at the primary, in the buffer, or in segments in
  the state folder that the next start goes on with. What a full disk does not take at a stop lies there, so the state folder should be on another disk than the files of the stores.
  Where it is full too, the stop ends with status 1 and says how many messages are not stored. With ~ack=received~, the default here, a crash can lose what is in memory, as with Scribe;
  ~ack=stored~ in the same file has OK mean stored.
- **A category without a store is kept.** Its messages lie in the buffer, counted as unrouted, until you send them: add a store for it, reload, and

      twinscribe buffer cat -c scribe.conf --reason unrouted --category web | scribe_cat -h localhost:1463 web
      twinscribe buffer forget -c scribe.conf --reason unrouted    # when all their categories are sent

  Where the store is on HDFS, ~twinscribe buffer ship --reason unrouted~ does both.
- **What can go nowhere is kept too.** A message without a category, or a longer one than a server takes, is a dead letter in the buffer: the client is told OK, and nothing else waits for it.
  ~twinscribe buffer cat -c scribe.conf --reason dead-letter~ shows them with their reasons, ~twinscribe buffer forget -c scribe.conf --reason dead-letter~ deletes them.
- **A slow category refuses only itself.** The queues of a call's own categories decide, not all. Beside its bytes each message counts 16 of ~max_queue_size~, and each category of a call 128,
  so that tiny and empty messages cannot take all memory.
- **A buffer is sent in pieces, as fast as the next place takes it,** and a refusal (TRY_LATER) costs a second, not a whole retry interval. Each chain has a folder of its own below the secondary's
  ~file_path~ (~web~, of a bucket ~web/part003~), so nothing waits for another one's outage. Chains that write to HDFS share one buffer, in the state folder.
- **Between servers of ours calls are numbered.** One that is sent again after a lost answer is known, and where the next server writes to HDFS ~twinscribe read~, which goes by the manifests, gives its messages once. Whoever reads
  files by their names, the local ones too, finds them twice then, as with Scribe; so does everybody where either end is an original.
- **~twinscribe read~ gives each message once** where a category goes to HDFS, from both clusters and the buffer together. It does not read local files and says so; where those are all there is, its status is 3.
- **An empty call goes ahead** of a batch of more than 4096 bytes only where the last answer on the connection was not OK (a new one, or TRY_LATER), and of an unnumbered one after a second without traffic.
- **Names of categories stay below file_path.** What is no name of a file is encoded.
- **Calls may be large.** Whole buffer files of the original, sent as one call, are taken up to 256 MiB.
- **Leftovers cost nothing.** Buffer files that an original has left (~<category>_NNNNN~ in the folder of a secondary) are sent on first and deleted then. Torn frames and empty messages in them cost
  nothing but themselves: what cannot be read is counted and kept beside the file. Such a file has no checksums and marks no frame, so that behind a tear frames are
  told by what they hold. Lines of four bytes and more are; so is text without line feeds, unless only one or two such messages stand behind one that
  was torn within its length; and mostly binary data, from eight messages on. What is not told is among the bytes that are kept, never gone. Of a buffer around a
  bucket store all of their messages go to bucket 0. New buffers are checksummed [segments](formats-buffer.md).

## What is refused, and what looks different

- **A file with a mistake does not start.** The original started, said OK and threw messages away. What it dropped without a word is
  read as it is meant where that can be one thing only, with a warning (CRLF, a stray closing tag, a mistyped key that nothing reads); otherwise
  the line is named. A reload with a mistake changes nothing, and shows as WARNING with file and line until the next good one.
- **Two stores of one category on the same HDFS are refused,** also in different folders: ~twinscribe read~ would give each message twice.
- **The status names the category.** WARNING and ALIVE follow Scribe's rules, and are asked in the same way. The text of ~getStatusDetails~ is ~category "web":~ and the error (what, where, cause, remedy), with ~(and 3 more)~ where
  others complain too. ~File open error~, ~File write error~ and ~Failed to connect~ stand in it as they did. Its other texts do not come: ours tell the same, and a bad configuration does not start.
  While a second place works for the first, WARNING stays with the first one's error, as it did; a disconnect shows at once.
- **Files on HDFS get their names when they are complete.** They are open below ~_twinscribe/~ in the ~file_path~ of the first store there (or in ~hdfs_folder~, a key of ours), where Hadoop's readers do not look, and a sealed file gets the name that Scribe would give it. A start that would look for them elsewhere, because another store comes first now, is refused, and tells what to write.
  So nobody reads half a file, and nothing is appended to one. There are more and shorter files: one ends at ~max_size~, when Scribe would rotate, at each full hour of UTC,
  and every five minutes while messages come, so that readers by name are not left behind (~visibility_seals~, 12 an hour, in our grammar). ~rotate_minute~, 15 by default, makes one more an hour: 0 saves it. Numbers count on.
  Who moves or removes such a file takes it from ~twinscribe read~ too, which then tells that it is missing.
- **On HDFS a message is a line.** Each ends in one line feed; an empty message is an empty line. In local files with ~add_newlines=0~ it leaves no trace, as with Scribe.

## Keys

*same*: it means what it means to Scribe. *better*: what it is for is reached with less loss. *no effect*: nothing here needs it. *refused*: what it rests on is
gone, and the file does not start. *ours*: it is not Scribe's.
`

const migrationTail = `
Any other key is one that Scribe passes over too; ~check~ warns of it. The store types thriftfile and thriftmultifile are refused: nothing reads Thrift's own
file format any more; write file and multifile. The types null, category and multi need no keys but those above; the <model> of a category store is a store.

## Behaviour that stays

Matching (an exact name, then the first prefix in byte order, then default), copies for several stores of one category, buckets and their numbers,
names, numbering and rotation of local files in local time, ~_current~ links, meta and stats lines, all fb303 methods and status numbers, counters under their
names, replies byte for byte. [What each test shows](dropin.md).
`
