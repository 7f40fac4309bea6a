package inventory

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
)

func TestOnlyOwnSettledInventoriesBeyondTheRetentionAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass(100 * 24 * time.Hour)
		w.start()
		w.k.Put("dt=2000-01-03/hr=05", file(1, "n1", catalog.StateTorn)) // not settled
		pass(5 * time.Second)
		w.stop()
		kept := w.id

		put := func(p string, member bool, ended bool) {
			raw := []byte("{}")
			if member {
				raw, _ = json.Marshal(catalog.Member{Version: 1, Aggregator: "ag1", Start: p[len(p)-13 : len(p)-5], Ended: ended})
			}
			w.c[0].Put(p, raw)
		}
		gone := []string{
			"_inventory/dt=2000-01-03/hr=05/ag1.00000001.json",
			"_inventory/dt=2000-01-03/ag1.00000001.json",
			"_inventory/dt=2000-03-01/hr=23/ag1.00000002.json",
		}
		stay := []string{
			"_inventory/dt=2000-01-03/hr=05/ag2.00000001.json",
			"_inventory/dt=2000-01-03/hr=05/ag1.x.00000001.json",
			"_inventory/dt=2000-01-03/hr=05/other",
			"_inventory/dt=2000-01-03/hr=5/ag1.00000001.json",
			"_inventory/notes/ag1.00000001.json",
		}
		for _, p := range slices.Concat(gone, stay) {
			put(p, false, false)
		}
		put("_members/ag1.00000001.json", true, true)
		put("_members/ag1.00000002.json", true, false) // never ended
		pass(31 * 24 * time.Hour)
		put("_members/ag1.00000003.json", true, true) // written just now
		young := "_inventory/" + string(hour(time.Now().Add(-29*24*time.Hour))) + "/ag1.00000002.json"
		put(young, false, false)
		stay = append(stay, young, "_members/ag1.00000002.json", "_members/ag1.00000003.json",
			catalog.InventoryPath(kept, "dt=2000-01-03/hr=05"), catalog.MemberPath(kept))

		w.retention = 30 * 24 * time.Hour
		w.start()
		defer w.stop()
		pass(10 * time.Second)
		paths := w.c[0].Paths()
		for _, p := range append(gone, "_members/ag1.00000001.json") {
			if slices.Contains(paths, p) {
				t.Errorf("%s is still there", p)
			}
		}
		for _, p := range stay {
			if !slices.Contains(paths, p) {
				t.Errorf("%s is gone", p)
			}
		}
	})
}
