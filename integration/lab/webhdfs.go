package lab

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Admin does one operation of WebHDFS as the superuser: MKDIRS, SETOWNER, SETPERMISSION,
// SETQUOTA and the like. It is what an operator's shell does, without the start of a JVM.
func (h *Hadoop) Admin(t testing.TB, op, path string, params ...string) {
	t.Helper()
	q := url.Values{"op": {op}, "user.name": {User()}}
	for _, p := range params {
		k, v, _ := strings.Cut(p, "=")
		q.Set(k, v)
	}
	u := "http://" + host("127.0.0.1", h.Port("nn")+1) + "/webhdfs/v1" + path + "?" + q.Encode()
	r, err := http.NewRequest(http.MethodPut, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Timeout: 20 * time.Second}
	a, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if body, err := io.ReadAll(a.Body); err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%s %s of %s: %s %s %v", op, path, h.Name, a.Status, body, err)
	}
}
