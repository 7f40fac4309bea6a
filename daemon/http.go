package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"twinscribe/store/ship"
)

// Limits of the HTTP side. It answers operators and scrapers, not clients that log.
const (
	httpHeader = 10 * time.Second // a request's header has to be there within it
	httpIdle   = 2 * time.Minute
	httpBytes  = 64 << 10 // of a header
)

// handler is the HTTP side. What changes something, and pprof, is for
// loopback only.
func (s *Server) handler() http.Handler {
	m, inTurn := http.NewServeMux(), make(turn, 1)
	metrics := promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{ErrorLog: errorLog(s.log.Named("metrics"), "the metrics are not complete")})
	m.Handle("GET /metrics", inTurn.make(metrics.ServeHTTP))
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", s.serveReady)
	m.Handle("GET /v1/status", inTurn.make(func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Status()) }))
	m.Handle("GET /v1/counters", inTurn.make(func(w http.ResponseWriter, _ *http.Request) { reply(w, s.aggregator.Counters()) }))
	m.HandleFunc("GET /v1/segments", s.serveSegments)
	m.HandleFunc("GET /v1/segments/{name}", s.serveSegment)
	m.HandleFunc("GET /v1/drain", s.serveDrainState)
	m.Handle("POST /v1/drain", local(s.serveDrain))
	m.Handle("POST /v1/undrain", local(s.serveUndrain))
	m.Handle("POST /v1/reload", local(s.serveReload))
	m.Handle("POST /v1/stop", local(s.serveStop))
	m.Handle("POST /v1/ship", local(s.serveShip))
	m.Handle("POST /v1/forget", local(s.serveForget))
	m.Handle("/debug/pprof/", local(pprof.Index))
	m.Handle("/debug/pprof/profile", local(pprof.Profile))
	m.Handle("/debug/pprof/symbol", local(pprof.Symbol))
	m.Handle("/debug/pprof/trace", local(pprof.Trace))
	return bounded(m)
}

// newHTTP is the server around handler. An answer that takes long (profiles,
// shipping) has no deadline as a whole; reading a request has, and each write.
func (s *Server) newHTTP(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: httpHeader,
		ReadTimeout:       httpHeader,
		IdleTimeout:       httpIdle,
		MaxHeaderBytes:    httpBytes,
		ConnState:         s.door.watch,
		ErrorLog:          errorLog(s.log.Named("http"), "a connection of the HTTP side failed"),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
}

// local lets only callers on this machine through.
func local(f http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := mayChange(r); err != nil {
			fail(w, http.StatusForbidden, err)
			return
		}
		f(w, r)
	})
}

// fromHere says whether a request comes from this machine: from loopback, or
// from the very address that it was sent to.
func fromHere(r *http.Request) bool {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	from := remote.Addr().Unmap()
	to, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return from.IsLoopback() || to != nil && from == to.AddrPort().Addr().Unmap()
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	_ = e.Encode(v) // a client that is gone has nothing to be told
}

// Failure is the body of every answer that is not 200.
type Failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(Failure{err.Error()})
}

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	why := s.notReady()
	if len(why) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, reason := range why {
		fmt.Fprintln(w, reason)
	}
}

func (s *Server) serveDrain(w http.ResponseWriter, r *http.Request) {
	force, _ := strconv.ParseBool(r.FormValue("force"))
	st, err := s.Drain(r.FormValue("cluster"), force)
	answer(w, st, err)
}

func (s *Server) serveUndrain(w http.ResponseWriter, r *http.Request) {
	st, err := s.Undrain(r.FormValue("cluster"))
	answer(w, st, err)
}

func (s *Server) serveDrainState(w http.ResponseWriter, r *http.Request) {
	st, err := s.DrainState(r.FormValue("cluster"))
	answer(w, st, err)
}

func (s *Server) serveReload(w http.ResponseWriter, r *http.Request) {
	warnings, err := s.Reload(r.Context())
	answer(w, map[string]any{"warnings": warnings}, err)
}

func (s *Server) serveStop(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{"stopping": true})
	s.Shutdown()
}

func (s *Server) serveShip(w http.ResponseWriter, r *http.Request) {
	done, err := s.Ship(r.Context(), choiceOf(r), func(ship.Progress) {})
	answer(w, done, err)
}

func (s *Server) serveForget(w http.ResponseWriter, r *http.Request) {
	done, err := s.Forget(r.Context(), choiceOf(r))
	answer(w, done, err)
}

func choiceOf(r *http.Request) Choice {
	reason := r.FormValue("reason") // parses the form
	return Choice{Reason: reason, Segments: r.Form["segment"]}
}

func answer(w http.ResponseWriter, v any, err error) {
	switch {
	case err == nil:
		reply(w, v)
	case errors.Is(err, errUnknown):
		fail(w, http.StatusNotFound, err)
	default:
		fail(w, http.StatusConflict, err)
	}
}

// errUnknown marks a name in a request that there is nothing of.
var errUnknown = errors.New("unknown")
