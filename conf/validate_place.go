package conf

import (
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)
	digitsForm = regexp.MustCompile(`^[0-9.]+$`)
	// expandForm is what a shell or a template would put something else for.
	expandForm = regexp.MustCompile(`\$\{|\$\(|\$[A-Za-z_]|\{\{|<%|%\(`)
)

// folder wants the name of a folder on the local disk.
func (k check) folder(path, v, example string) bool {
	switch {
	case v == "":
		k.add(path, "missing: name a folder, such as %s", example)
	case strings.ContainsRune(v, 0):
		k.add(path, "%q: a name of a folder has no NUL in it", v)
	case strings.TrimSpace(v) != v:
		k.add(path, "%q: a blank stands at an end of the name", v)
	case v == "~" || strings.HasPrefix(v, "~/"):
		k.add(path, "%q: ~ is not expanded: write the whole path, such as %s", v, example)
	case expandForm.MatchString(v):
		k.add(path, "%q: nothing is taken from the environment: write the whole path, such as %s", v, example)
	default:
		if !filepath.IsAbs(v) {
			k.warn(path, "%s begins where the program is started: started elsewhere it would use another folder", v)
		}
		return true
	}
	return false
}

// inside says whether a folder is the outer one or lies in it, by their names.
func inside(folder, outer string) bool {
	if filepath.IsAbs(folder) != filepath.IsAbs(outer) {
		folder, outer = absolute(folder), absolute(outer)
	}
	return strings.HasPrefix(filepath.Clean(folder)+"/", strings.TrimSuffix(filepath.Clean(outer), "/")+"/")
}

func absolute(folder string) string {
	if abs, err := filepath.Abs(folder); err == nil {
		return abs
	}
	return folder // nobody knows where the program runs
}

// root wants a folder of HDFS below which nobody else writes.
func (k check) root(p, v string) {
	clean := path.Clean(v)
	switch {
	case expandForm.MatchString(v):
		k.add(p, "%q: nothing is taken from the environment: write the whole path, such as /logs", v)
	case !path.IsAbs(v) || clean == "/" || slices.Contains(strings.Split(v, "/"), "..") || strings.ContainsAny(v, ":\x00") ||
		clean == "/.reserved" || strings.HasPrefix(clean, "/.reserved/"):
		k.add(p, "%q: want the absolute path of a folder of its own, such as /logs", v)
	case strings.ContainsAny(v, "*?[]{}\\") || strings.TrimSpace(v) != v || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' }):
		k.add(p, "%q: want a path without patterns, and without blanks at its ends, such as /logs", v)
	case strings.TrimSuffix(v, "/") != clean:
		k.add(p, "%q: write %s", v, clean)
	}
}

// address wants HOST:PORT; for a remote one neither may be left out.
func (k check) address(path, v string, remote bool, example string) bool {
	host, port, err := net.SplitHostPort(v)
	n, bad := strconv.ParseUint(port, 10, 16)
	switch {
	case expandForm.MatchString(v):
		k.add(path, "%q: nothing is taken from the environment: want HOST:PORT, such as %s", v, example)
	case err != nil || bad != nil || len(port) > 1 && port[0] == '0' || remote && (host == "" || n == 0) || !hostLike(host):
		k.add(path, "%q: want HOST:PORT, such as %s", v, example)
	default:
		return true
	}
	return false
}

// hostLike says whether a text can be a host's name or address, or is empty.
func hostLike(host string) bool {
	if host == "" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return len(host) < 256 && hostForm.MatchString(host) && !digitsForm.MatchString(host)
}

// hostKey is the one spelling of a host, of the many that it has.
func hostKey(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a = a.Unmap(); a.IsLoopback() {
			return "127.0.0.1"
		}
		return a.String()
	}
	return host
}

func (k check) listen() {
	l := k.c.Listen
	thrift := k.address("listen.thrift", l.Thrift, false, ":1463")
	if !k.address("listen.http", l.HTTP, false, "127.0.0.1:14630") {
		return
	}
	host, port, _ := net.SplitHostPort(l.HTTP)
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		k.warn("listen.http", "%s can be reached from other machines: status, metrics and segments are there for everybody", l.HTTP)
	}
	if other, otherPort, _ := net.SplitHostPort(l.Thrift); thrift && otherPort == port && port != "0" && (all(host) || all(other) || hostKey(host) == hostKey(other)) {
		k.add("listen.http", "%s has the port of listen.thrift, %s: each needs one of its own", l.HTTP, l.Thrift)
	}
}

// all says whether an address to listen on is every address of the machine.
func all(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.Unmap().IsUnspecified()
}
