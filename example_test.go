package mqttetl_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/mqttetl/mqttetl"
)

// A batch holds messages as the log keeps them; DecodeRecords reads them back.
func ExampleBatch() {
	b := mqttetl.Batch{Source: "plant"}
	b.Append(1_767_642_776_000_000_000, mqttetl.Message{Topic: []byte("factory/1/temp"), Payload: []byte("21.5"), Flags: 1})
	b.Append(1_767_642_777_000_000_000, mqttetl.Message{Topic: []byte("factory/1/temp"), Payload: []byte("21.6"), Flags: 1})

	records, err := mqttetl.DecodeRecords(nil, b.Bytes(), b.Len(), 100, b.Source)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range records {
		fmt.Printf("%d %s %s %s qos=%d\n", r.Seq, r.When().UTC().Format("15:04:05"), r.Topic, r.Payload, r.Flags.QoS())
	}
	// Output:
	// 100 19:52:56 factory/1/temp 21.5 qos=1
	// 101 19:52:57 factory/1/temp 21.6 qos=1
}

func ExampleParseFilter() {
	filter, err := mqttetl.ParseFilter("factory/+/temp")
	fmt.Println(filter.Matches([]byte("factory/1/temp")), filter.Matches([]byte("factory/1/2/temp")), err)
	_, err = mqttetl.ParseFilter("factory/#/temp")
	fmt.Println(err)
	// Output:
	// true false <nil>
	// topic filter "factory/#/temp": # is allowed only at the end
}

func ExampleSelection() {
	selection := mqttetl.Selection{From: 10, Topics: []mqttetl.Filter{"factory/#"}}
	for seq := mqttetl.Seq(9); seq <= 10; seq++ {
		r := mqttetl.Record{Seq: seq, Message: mqttetl.Message{Topic: []byte("factory/1/temp")}}
		fmt.Println(seq, selection.Matches(&r))
	}
	// Output:
	// 9 false
	// 10 true
}

// A hint says what an operator can do. It is not part of the error's text.
func ExampleWithHint() {
	err := fmt.Errorf("open the log: %w", mqttetl.WithHint(mqttetl.ErrDamaged, "restore a copy"))
	fmt.Println(err)
	fmt.Println(mqttetl.Hint(err), errors.Is(err, mqttetl.ErrDamaged))
	// Output:
	// open the log: damaged
	// restore a copy true
}
