package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
)

// rerunIdentity is what makes the rows of a rerun: what was interrupted is
// resumed by the same only.
type rerunIdentity struct {
	Routes      []transform.Route `json:"routes"`
	Since       string            `json:"since,omitempty"`       // as it was written
	Descriptors map[string]string `json:"descriptors,omitempty"` // SHA-256 of the files
}

func newRerunIdentity(routes []transform.Route, since string) (id rerunIdentity, err error) {
	id = rerunIdentity{Routes: routes, Since: since}
	for _, r := range routes {
		if r.Descriptor == "" {
			continue
		}
		p, err := os.ReadFile(r.Descriptor)
		if err != nil {
			return id, configError{fmt.Errorf("route %s: %w", r.Name, err)}
		}
		if id.Descriptors == nil {
			id.Descriptors = map[string]string{}
		}
		sum := sha256.Sum256(p)
		id.Descriptors[r.Descriptor] = hex.EncodeToString(sum[:])
	}
	return id, nil
}

func (id rerunIdentity) text() string {
	p, err := json.Marshal(id)
	if err != nil {
		panic(err) // they are texts
	}
	return string(p)
}

// differs is the error that says how the interrupted rerun, was, is another.
func (id rerunIdentity) differs(table, was string) error {
	const anew = "without --resume it begins anew"
	var old rerunIdentity
	if err := json.Unmarshal([]byte(was), &old); err == nil && (rerunIdentity{Routes: old.Routes}).text() == (rerunIdentity{Routes: id.Routes}).text() {
		switch {
		case old.Since != id.Since:
			same := "leave out --since to go on"
			if old.Since != "" {
				same = "give --since " + old.Since + " to go on"
			}
			return mqttetl.WithHint(fmt.Errorf("table %s: the interrupted rerun had another --since", table), same+"; "+anew)
		case !reflect.DeepEqual(old.Descriptors, id.Descriptors):
			return mqttetl.WithHint(fmt.Errorf("table %s: a descriptor file of its routes has changed since the rerun was interrupted", table), anew)
		}
	}
	return mqttetl.WithHint(fmt.Errorf("table %s: the routes have changed since the rerun was interrupted", table), anew)
}
