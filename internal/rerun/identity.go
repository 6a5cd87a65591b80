package rerun

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
)

// identity is what makes the rows of a rerun: what was interrupted is
// resumed by the same only.
type identity struct {
	Routes      []transform.Route `json:"routes"`
	Since       string            `json:"since,omitempty"`       // as it was written
	Descriptors map[string]string `json:"descriptors,omitempty"` // SHA-256 of the files
}

func newIdentity(routes []transform.Route, since string) (id identity, err error) {
	id = identity{Routes: routes, Since: since}
	for _, r := range routes {
		if r.Descriptor == "" {
			continue
		}
		p, err := os.ReadFile(r.Descriptor)
		if err != nil {
			return id, config.Error{Err: fmt.Errorf("route %s: %w", r.Name, err)}
		}
		if id.Descriptors == nil {
			id.Descriptors = map[string]string{}
		}
		sum := sha256.Sum256(p)
		id.Descriptors[r.Descriptor] = hex.EncodeToString(sum[:])
	}
	return id, nil
}

// Identity is the text by which an archive knows an interrupted rerun of these
// routes, with Since as it was given.
func Identity(routes []transform.Route, since string) (string, error) {
	id, err := newIdentity(routes, since)
	return id.text(), err
}

func (id identity) text() string {
	p, err := json.Marshal(id)
	if err != nil {
		panic(err) // they are texts
	}
	return string(p)
}

// differs is the error that says how the interrupted rerun, was, is another.
func (id identity) differs(table, was string) error {
	const anew = "without --resume it begins anew"
	var old identity
	if err := json.Unmarshal([]byte(was), &old); err == nil && (identity{Routes: old.Routes}).text() == (identity{Routes: id.Routes}).text() {
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
