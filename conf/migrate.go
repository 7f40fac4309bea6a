package conf

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinscribe/conf/scribe"
)

// A Migration is what a configuration of the original Scribe server comes to.
type Migration struct {
	Config *Config
	Notes  []Note // on every key that the file has, in the order of its lines
	YAML   []byte // the same configuration in our grammar
}

// A Note says what becomes of one key of a Scribe configuration.
type Note struct {
	Line    int
	Section string // such as store1/primary; empty: the top level
	Key     string
	Value   string
	Verdict Verdict
	Text    string
}

// ScribeOptions are what a configuration of Scribe's does not say itself.
type ScribeOptions struct {
	Port int  // to listen on where the file names none; 0: there is none
	Tool bool // who loads it does not listen: it needs a port only where state or http is not in the file

	// State chooses the state folder of a file without state=, and says which
	// others hold a state too, and, where none does, which folders beside them
	// do; nil: the first.
	State func(folders []string) (chosen string, others, beside []string)
}

// LoadScribe reads and checks a configuration in Scribe's own grammar. It
// touches nothing but the file, but for what o.State does.
func LoadScribe(path string, o ScribeOptions) (m *Migration, warnings []string, err error) {
	b, err := readFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	return loadScribe(path, b, o)
}

// LoadScribeBytes is LoadScribe for a file that has been read, and a port. It
// does not look for a state: Config.State is the first place where one may be.
func LoadScribeBytes(name string, content []byte, port int) (m *Migration, warnings []string, err error) {
	return loadScribe(name, content, ScribeOptions{Port: port})
}

func loadScribe(name string, content []byte, o ScribeOptions) (m *Migration, warnings []string, err error) {
	g := &migration{r: newReport(name), f: scribe.Parse(name, content), c: Default()}
	g.server(o)
	for _, s := range g.f.Root.ByName() {
		g.topStore(s)
	}
	g.finish()
	g.place(o.State)
	early := g.f.Err() != nil
	if early { // what is wrong may be why a key was not read
		g.f.WarnUnknown(nameOfScribe)
	} else {
		g.f.WarnUnread()
	}
	for _, m := range g.f.Mistakes() {
		if m.Severity == scribe.Warning {
			warnings = append(warnings, m.String())
		}
	}
	yaml, err := printYAML(&g.c, g.r.said)
	if err != nil {
		return nil, warnings, err
	}
	if early && len(g.c.Category) == 0 { // what there is in the file is wrong already
		g.r.suspects = append(g.r.suspects, "categories")
	}
	g.c.resolve(g.r.said)
	check{&g.c, g.r}.all()
	if err := g.errors(); err != nil {
		return nil, append(warnings, g.r.warnings...), err
	}
	return &Migration{Config: &g.c, Notes: g.notes(), YAML: yaml}, append(warnings, g.r.warnings...), nil
}

// migration is one file on its way.
type migration struct {
	r *report
	f *scribe.File
	c Config

	perThread bool   // new_thread_per_category
	several   bool   // one queue of Scribe's has all categories of the store that is read
	base      string // what names of its files begin with, if nothing else is said
	rules     []*ruleOf
	clusters  []*clusterOf
	port      string   // empty: none is known
	folders   []folder // of the file's local stores, but for buffers
	buffers   []folder
	shared    []string // paths of those in front of HDFS
	wait      time.Duration
	wake      Size
}

// errors are the file's mistakes in the form of our own files.
func (g *migration) errors() error {
	for _, m := range g.f.Mistakes() {
		if m.Severity != scribe.Error {
			continue
		}
		path := m.Key
		if m.Section != "" {
			path = strings.TrimSuffix(m.Section+": "+m.Key, ": ")
		}
		text := m.Wrong
		if m.Right != "" {
			text += ": " + m.Right
		}
		g.r.at(m.Line, path, "%s", text)
	}
	return g.r.err()
}

// size is a number of bytes, as far as we count.
func size(n uint64) Size { return Size(min(n, math.MaxInt64)) }

// whole is a number as far as ours go.
func whole(n uint64) int { return int(min(n, math.MaxInt32)) }

// seconds is a duration.
func seconds(n uint64) time.Duration { return time.Duration(min(n, 1e9)) * time.Second }

// server reads the keys of the top level.
func (g *migration) server(o ScribeOptions) {
	g.listen(o)
	top := g.f.Root
	c := &g.c
	for key, path := range map[string]string{"http": "listen.http", "id": "id", "state": "state", "ack": "ack"} {
		if v, there := top.Lookup(key); there {
			g.r.lines[path] = v.Line
		}
	}
	c.ID = top.Text("id", "")
	c.State = top.Text("state", "")
	c.Ack = top.Text("ack", "received")
	c.Unrouted = "keep"
	c.FB303Version = "2.2" // Scribe's last

	l := &c.Limits
	l.Frame, l.Entries = 256*MiB, 10_000_000
	l.Message = l.Frame - KiB
	l.FrameMemory = 2 * l.Frame
	l.Queue = max(1, size(top.Decimal("max_queue_size", 5_000_000)))
	l.Memory = max(2*l.Frame, l.Queue)
	l.QueueAdmits = QueueAdmitsBelow
	l.MessagesPerSecond = whole(top.Uint("max_msg_per_second", 0))
	l.Categories = 1 << 16 // each copy and each bucket counts
	l.Connections = cmp.Or(whole(top.Uint("max_conn", 0)), l.Connections)
	for _, key := range []string{"limits.memory", "limits.queue", "limits.frame_memory", "queue.batch_bytes", "buffer.segment"} {
		g.r.said[key] = true
	}
	top.Uint("check_interval", 5)
	if top.Uint("num_thrift_server_threads", 3) == 0 {
		top.AddWarning("num_thrift_server_threads", "with 0 Scribe does not start", "remove the key: it has no effect here")
	}
	g.perThread = top.Bool("new_thread_per_category", true)
	c.Timeouts.Stop = time.Minute
}

// httpApart is how far a server's HTTP port is from its own, so that two servers
// of a host differ in both: above it, or below where there are none.
const httpApart = 13167

// listen reads where the server listens.
func (g *migration) listen(o ScribeOptions) {
	top, l := g.f.Root, &g.c.Listen
	otherwise := uint64(o.Port)
	_, named := top.Lookup("port")
	if named {
		otherwise = 1463 // what is no number is told
	}
	p := top.Uint("port", otherwise)
	switch {
	case named || p > 0:
		if p == 0 || p > math.MaxUint16 {
			top.AddError("port", fmt.Sprintf("%d is no port to listen on", p), "write port=1463, or give -p 1463")
			break
		}
		g.port = strconv.FormatUint(p, 10)
		l.Thrift = ":" + g.port
		http := p + httpApart
		if http > math.MaxUint16 {
			http = p - httpApart
		}
		l.HTTP = net.JoinHostPort("127.0.0.1", strconv.FormatUint(http, 10))
	case !o.Tool:
		top.AddError("port", "the file names no port to listen on", "write port=1463, or give -p 1463")
	case top.Text("state", "") == "" || top.Text("http", "") == "":
		top.AddError("port", "the file names no port, which tells where the server's state folder and its status are",
			"give -p 1463, or write port=1463, or both state= and http=")
	}
	l.HTTP = top.Text("http", l.HTTP)
}

// finish makes what follows from all stores together.
func (g *migration) finish() {
	g.placeClusters()
	g.route()
	c := &g.c
	c.Queue.BatchBytes = min(cmp.Or(g.wake, 16*KiB), c.Queue.MaxBatch)
	c.Queue.BatchWait = min(cmp.Or(g.wait, time.Second), time.Minute)
	c.Buffer.MaxBytes, c.Buffer.Segment = TiB, 64*MiB
}

// account is who libhdfs writes as.
func account() string {
	if name := os.Getenv("HADOOP_USER_NAME"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "scribe"
}

// notes are what becomes of each key that stands in the file.
func (g *migration) notes() []Note {
	var list []Note
	var walk func(s *scribe.Section)
	walk = func(s *scribe.Section) {
		for _, v := range s.Values() {
			n := Note{Line: v.Line, Section: s.Path(), Key: v.Key, Value: v.Text}
			n.Verdict, n.Text = verdictOn(s, v.Key)
			list = append(list, n)
		}
		for _, inner := range s.Sections() {
			walk(inner)
		}
	}
	walk(g.f.Root)
	slices.SortStableFunc(list, func(a, b Note) int { return a.Line - b.Line })
	return list
}

// verdictOn is what the table of keys says of one.
func verdictOn(s *scribe.Section, key string) (Verdict, string) {
	kind := ""
	if s.Parent() != nil {
		kind = s.Text("type", "")
	}
	if of, inherited, is := strings.Cut(key, "::"); is {
		kind, key = of, inherited
	}
	for _, k := range scribeKeys {
		if k.Key == key && slices.Contains(strings.Fields(k.Of), cmp.Or(kind, "server")) {
			return k.Verdict, k.Text
		}
	}
	for _, k := range scribeKeys {
		switch {
		case k.Key != key || k.Of != "store" || kind == "":
		case key != "type" && s.Parent() != nil && s.Parent().Parent() != nil:
			return Unused, "Scribe too reads it of stores at the top level only"
		default:
			return k.Verdict, k.Text
		}
	}
	text := "Scribe does not know it either, and passes over it"
	if near := nearest(key, keysOfScribe(kind)); near != "" {
		text += ": did you mean " + near + "?"
	}
	return Unknown, text
}

// sectionsOfScribe are the names that sections inside of a store have.
var sectionsOfScribe = regexp.MustCompile(`^(primary|secondary|model|bucket[0-9]*|store[0-9]+)$`)

// nameOfScribe says whether a key or a section is called so anywhere.
func nameOfScribe(name string) bool {
	return sectionsOfScribe.MatchString(name) || slices.ContainsFunc(scribeKeys, func(k ScribeKey) bool { return k.Key == name })
}

// keysOfScribe are those that a store of a type may have; "": the top level.
func keysOfScribe(kind string) (keys []string) {
	for _, k := range scribeKeys {
		if kind != "" && k.Of == "store" || slices.Contains(strings.Fields(k.Of), cmp.Or(kind, "server")) {
			keys = append(keys, k.Key)
		}
	}
	return keys
}
