package transform_test

import (
	"fmt"
	"log"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/store"
)

// A route makes rows of the messages whose topic it matches. What it cannot use
// is a failure that says why.
func Example() {
	set, err := transform.Compile([]transform.Route{{
		Name: "climate", Topic: "zigbee2mqtt/{device}", Table: "climate",
		Columns: []transform.Column{{Name: "temperature", Type: store.Real}, {Name: "humidity", Type: store.Real, Path: ".humidity?"}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	routes, err := set.Applier(transform.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer routes.Close()
	for i, payload := range []string{`{"temperature": 21.5, "humidity": 40}`, `{"temperature": "23,5 °C"}`, `{"battery": 3}`} {
		routes.Apply(&mqttetl.Record{Seq: mqttetl.Seq(i + 1), Message: mqttetl.Message{Topic: []byte("zigbee2mqtt/kitchen"), Payload: []byte(payload)}})
	}
	rows := &routes.Rows[0]
	for i := range rows.Len() {
		row := rows.Row(i)[2:] // after seq and time
		fmt.Println(row[0].Text(), row[1].Interface(), row[2].Interface())
	}
	for _, f := range routes.Failures {
		fmt.Println("failed:", f.Seq, f.Err)
	}
	// Output:
	// kitchen 21.5 40
	// kitchen 23.5 <nil>
	// failed: 3 column temperature: there is no .temperature
}
